"""Gradients of multiscale fusion: by kernels w.r.t. logits and base, else by the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brackets import SHAPES, bracket, small_logits, some_valid
from cases import arrange, stack
from torch import Tensor

from fastmef import functional, reference
from fastmef.ops import multiscale
from fastmef.reference.pyramid import halvings_above

pytestmark = pytest.mark.usefixtures("kernels")

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def gradients(
    fuse: Any, dtype: torch.dtype, inputs: dict[str, Tensor], **options: Any
) -> dict[str, Tensor]:
    fresh = {name: x.detach().to(dtype).requires_grad_() for name, x in inputs.items()}
    fused = fuse(**fresh, **options)
    weights = stack(*fused.shape, dtype=torch.float64, seed=5).to(inputs["exposures"].dtype)
    fused.backward((weights - 0.4).to(fused.dtype))
    return {name: x.grad.double() for name, x in fresh.items() if x.grad is not None}


def check(inputs: dict[str, Tensor], levels: int, layout: str = "planar", **options: Any) -> None:
    def plain(logits: Tensor, exposures: Tensor, **others: Any) -> Tensor:
        return reference.multiscale_fuse(logits, exposures, levels, **others)

    def ours(logits: Tensor, exposures: Tensor, **others: Any) -> Tensor:
        return functional.multiscale_fuse(logits, arrange(exposures, layout), **others)

    dtype = inputs["exposures"].dtype
    exact = gradients(plain, torch.float64, inputs, **options)
    single = gradients(plain, torch.float32, inputs, **options)
    found = gradients(ours, dtype, inputs, **options)
    for name, e in exact.items():
        eps, largest = torch.finfo(dtype).eps, float(e.abs().max())
        spared = 0 if dtype == torch.float64 else 2 * float((single[name] - e).abs().max())
        assert (found[name] - e).abs().max() <= spared + (8 * eps + 1e-12) * (1 + largest), name


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size", [(40, 33), (15, 21), (11, 10)])
def test_a_base_between_two_levels(dtype: torch.dtype, size: tuple[int, int]) -> None:
    exposures = bracket(2, 3, 3, 45, 38, dtype=dtype)
    levels = halvings_above((45, 38), size)
    logits = small_logits(exposures, levels, size=size).to(dtype)
    inputs = {"logits": logits, "exposures": exposures}
    check(inputs, levels, floor=1e-3)
    check(inputs, levels, floor=1e-3, knee=None)

    def ours(x: Tensor) -> Tensor:
        return functional.multiscale_fuse(x, exposures.double(), knee=None)

    x = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(ours, (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_logits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    exposures = bracket(2, *shape[:4], dtype=dtype)
    levels = shape[-1]
    logits = small_logits(exposures, levels).to(dtype)
    valid = some_valid(exposures)
    for options in ({}, {"knee": None}, {"knee": (0.4, 0.6), "contrast": 2.0}, {"valid": valid}):

        def plain(x: Tensor, images: Tensor, options: Any = options) -> Tensor:
            return reference.multiscale_fuse(x, images, levels, **options)

        def ours(x: Tensor, images: Tensor, options: Any = options) -> Tensor:
            return functional.multiscale_fuse(x, images, **options)

        results = []
        for fuse, to in ((plain, torch.float64), (plain, torch.float32), (ours, dtype)):
            x = logits.to(to).detach().requires_grad_()
            fused = fuse(x, exposures.to(to))
            weights = stack(*fused.shape, dtype=torch.float64, seed=5).to(dtype)
            fused.backward((weights - 0.4).to(to))
            results.append(x.grad.double())
        exact, single, found = results
        eps, scale = torch.finfo(dtype).eps, 1 + float(exact.abs().max())
        spared = 0 if dtype == torch.float64 else 2 * float((single - exact).abs().max())
        assert (found - exact).abs().max() <= spared + (8 * eps + 1e-12) * scale


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
def test_gradient_of_everything(dtype: torch.dtype, layout: str) -> None:
    exposures = bracket(2, 3, 3, 22, 19, dtype=dtype)
    shares = torch.tensor([[0.5, 1, 0.7], [1, 0.2, 0.6]]).to(dtype)
    inputs = {
        "exposures": exposures,
        "logits": small_logits(exposures, 2).to(dtype),
        "shares": shares,
    }
    check(inputs, 2, layout)
    check(inputs, 2, layout, valid=some_valid(exposures), contrast=(1.5, 0.5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_gradient_of_contrast(dtype: torch.dtype) -> None:
    exposures = bracket(1, 2, 3, 20, 21, dtype=dtype)
    contrast = [torch.tensor(x, requires_grad=True) for x in (1.2, 0.8)]
    fused = functional.multiscale_fuse(
        small_logits(exposures, 2), exposures.float() / 255, contrast=contrast
    )
    fused.square().sum().backward()
    assert all(x.grad is not None and x.grad.isfinite() and x.grad != 0 for x in contrast)


def test_gradient_of_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """A given base has the gradient of the backward pass of expand, without the reference."""
    monkeypatch.setattr(multiscale, "gradients", None)
    exposures = bracket(1, 2, 3, 41, 37, dtype=torch.float32)
    base = torch.rand(1, 3, 11, 10, requires_grad=True)
    functional.multiscale_fuse(None, exposures, base=base).square().sum().backward()
    exact = base.detach().double().requires_grad_()
    reference.multiscale_fuse(None, exposures.double(), 2, base=exact).square().sum().backward()
    assert base.grad is not None and exact.grad is not None
    assert (base.grad - exact.grad).abs().max() <= 1e-5 * exact.grad.abs().max()


def test_gradcheck() -> None:
    exposures = bracket(1, 2, 3, 6, 7, dtype=torch.float64).requires_grad_()
    logits = small_logits(exposures.detach(), 2, torch.float64).requires_grad_()
    shares = torch.tensor([[0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    contrast = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def fuse(x: Tensor, images: Tensor, s: Tensor, c: Tensor) -> Tensor:
        return functional.multiscale_fuse(x, images, shares=s, contrast=c, floor=1e-3)

    assert torch.autograd.gradcheck(fuse, (logits, exposures, shares, contrast))
    assert torch.autograd.gradcheck(
        lambda x: functional.multiscale_fuse(x, exposures.detach()), (logits,)
    )
    assert torch.autograd.gradcheck(
        lambda x: tuple(y for y in functional.exposure_pyramid(x, 2)[:1]), (exposures,)
    )


def test_integers_carry_no_gradient() -> None:
    exposures = bracket(1, 2, 3, 8, 9, dtype=torch.uint8)
    logits = small_logits(exposures, 1).requires_grad_()
    assert not functional.multiscale_fuse(logits, exposures).requires_grad
