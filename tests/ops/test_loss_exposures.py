"""Gradients of the losses w.r.t. every tensor, including the exposures and the mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, reference

GAMMAS = ["variance", "variance_gradient", "well_exposedness", "variance_gradient_well_exposedness"]
FLOATS = [torch.float16, torch.bfloat16, torch.float32]


def images(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(0.2, 1, shape[-1])
    return torch.rand(shape, generator=generator) * ramp


def tensors(form: str, *shape: int) -> list[Tensor]:
    exposures = images(*shape, seed=0)
    if form == "logits":
        return [2 * images(*shape, seed=1), exposures]
    out = [images(*shape, seed=1)[:, 0], exposures]
    return [*out, images(*shape, seed=2)[:, 0]] if form == "mask" else out


def evaluate(module: Any, given: list[Tensor], dtype: torch.dtype, **options: Any) -> list[Tensor]:
    """Return the value and its gradients w.r.t. all tensors as float64."""
    leaves = [x.to(dtype).detach().requires_grad_() for x in given]
    if leaves[0].ndim == 4:
        value = module.fusion_loss(*leaves, **options)
    else:
        mask = leaves[2] if len(leaves) == 3 else None
        value = module.weighted_ssim_loss(*leaves[:2], mask=mask, **options)
    # Integers that every type holds.
    grad_output = (50 + torch.arange(value.numel()) % 50).reshape(value.shape).to(value)
    gradients = torch.autograd.grad(value, leaves, grad_output)
    assert all(g.dtype == dtype for g in gradients)
    return [x.detach().double() for x in (value, *gradients)]


def check(form: str, given: list[Tensor], dtype: torch.dtype, **options: Any) -> None:
    given = [x.to(dtype).float() for x in given]
    exact = evaluate(reference, given, torch.float64, **options)
    single = evaluate(reference, given, torch.float32, **options)
    ours = evaluate(functional, given, dtype, **options)
    eps = torch.finfo(dtype).eps
    for e, s, o in zip(exact, single, ours, strict=True):
        budget = 2 * (s - e).abs().max() + 2e-6 * (1 + e.abs().max())
        rounding = eps * e.abs() + 1e-7 if eps > 1e-6 else 0
        assert ((o - e).abs() <= budget + rounding).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", ["fused", "mask", "logits"])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("luminance", [False, True])
def test_every_gradient(form: str, gamma: str, luminance: bool, dtype: torch.dtype) -> None:
    given = tensors(form, 2, 3, 24, 31)
    check(form, given, dtype, gamma=gamma, luminance=luminance, scales=(1.0, 0.5))


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 5, 7), (1, 3, 1, 300), (1, 5, 33, 31)])
def test_sizes(form: str, shape: tuple[int, ...]) -> None:
    check(form, tensors(form, *shape), torch.float32)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("form", ["fused", "mask"])
def test_map(form: str, dtype: torch.dtype) -> None:
    given = tensors(form, 1, 2, 24, 31)
    check(form, given, dtype, reduction="none")


@pytest.mark.parametrize("form", ["fused", "mask", "logits"])
def test_gradcheck(form: str) -> None:
    given = [x.double().requires_grad_() for x in tensors(form, 1, 2, 13, 12)]

    def loss(source: Tensor, exposures: Tensor, mask: Tensor | None = None) -> Tensor:
        options: dict[str, Any] = {"scales": (1.0, 0.5), "luminance": True}
        if form == "logits":
            return functional.fusion_loss(source, exposures, **options)
        return functional.weighted_ssim_loss(source, exposures, mask=mask, **options)

    assert torch.autograd.gradcheck(loss, given, atol=1e-6, fast_mode=True)


def test_the_value_is_that_of_the_sweep() -> None:
    fused, exposures = tensors("fused", 2, 3, 40, 41)
    alone = functional.weighted_ssim_loss(fused, exposures, scales=(1.0, 0.5))
    together = functional.weighted_ssim_loss(fused, exposures.requires_grad_(), scales=(1.0, 0.5))
    torch.testing.assert_close(alone, together.detach(), rtol=0, atol=5e-7)
