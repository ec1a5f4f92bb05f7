"""float16 and bfloat16 losses read half precision, compute in float32 and round once at the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, ops, reference

HALVES = [torch.float16, torch.bfloat16]


def images(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return noise of several strengths over ramps."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator)
    ramp = torch.linspace(0, 1, shape[-1])
    return (0.5 * ramp + 0.5 * noise * ramp).to(dtype)


def inputs(form: str, dtype: torch.dtype, *shape: int) -> tuple[Tensor, Tensor]:
    exposures = images(*shape, dtype=dtype)
    if form == "logits":
        return 3 * images(*shape, dtype=dtype, seed=1) - 1.5, exposures
    return images(*shape, dtype=dtype, seed=1)[:, 0], exposures


def evaluate(
    module: Any, source: Tensor, exposures: Tensor, grad_output: float, **options: Any
) -> tuple[Tensor, Tensor]:
    source = source.detach().requires_grad_()
    function = module.fusion_loss if source.ndim == 4 else module.weighted_ssim_loss
    value = function(source, exposures, **options)
    value.backward(torch.full_like(value, grad_output))
    assert source.grad is not None
    return value.detach(), source.grad


def check(
    source: Tensor, exposures: Tensor, grad_output: float | None = None, **options: Any
) -> None:
    """Check that the error is at most twice that of float32, plus rounding to the stored dtype."""
    pixels = source.shape[0] * source.shape[-2] * source.shape[-1]
    grad_output = float(pixels) if grad_output is None else grad_output
    results = []
    for dtype in (torch.float64, torch.float32):
        converted = {k: v.to(dtype) if torch.is_tensor(v) else v for k, v in options.items()}
        results.append(
            evaluate(reference, source.to(dtype), exposures.to(dtype), grad_output, **converted)
        )
    (exact, grad_source), (single, single_gradient) = results
    value, gradient = evaluate(functional, source, exposures, grad_output, **options)
    windows = reference.crop_to_centers(exposures, 11)[:, 0].numel()
    assert value.dtype == torch.float32
    assert (value - exact).abs() <= 2 * (single - exact).abs() + 2e-7 + 5e-6 / windows
    assert gradient.dtype == source.dtype and gradient.shape == source.shape
    info = torch.finfo(source.dtype)
    # Rounded when it is made, and again when it is scaled by ``grad_output``.
    rounding = info.eps * grad_source.abs() + info.smallest_normal * info.eps
    budget = (
        2 * (single_gradient - grad_source).abs().max() + grad_output * 1e-4 / windows + rounding
    )
    assert ((gradient - grad_source).abs() <= budget).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 2, 5, 7), (1, 3, 12, 37), (1, 2, 1, 3000), (1, 5, 70, 270)]
)
@pytest.mark.parametrize("scales", [(1.0,), (0.4, 0.35, 0.25), (0.0, 1.0)])
def test_losses(
    form: str, dtype: torch.dtype, shape: tuple[int, ...], scales: tuple[float, ...]
) -> None:
    check(*inputs(form, dtype, *shape), scales=scales)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("scales", [(1.0,), (0.4, 0.35, 0.25)])
def test_mask(dtype: torch.dtype, scales: tuple[float, ...]) -> None:
    fused, exposures = inputs("fused", dtype, 2, 2, 45, 51)
    mask = images(2, 45, 51, dtype=dtype, seed=3)
    check(fused, exposures, mask=mask, scales=scales)
    only_one = torch.zeros_like(mask)
    only_one[0, 20, 21] = 1
    check(fused, exposures, grad_output=1.0, mask=only_one)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("form", ["fused", "logits"])
def test_strided_inputs(form: str, dtype: torch.dtype) -> None:
    source, exposures = inputs(form, dtype, 2, 3, 60, 90)
    check(source[..., ::2, 1::3], exposures[..., ::2, 1::3], scales=(1.0, 1.0))
    check(source.mT.contiguous().mT, exposures.to(memory_format=torch.channels_last))
    check(source[:1].expand_as(source), exposures[:, :1].expand_as(exposures))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_each_instruction_set(isa: str, dtype: torch.dtype) -> None:
    for form in ("fused", "logits"):
        check(*inputs(form, dtype, 1, 2, 40, 290), scales=(1.0, 1.0), luminance=True)


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_small_shares_of_a_large_mean_do_not_underflow(form: str) -> None:
    """A loss scale of 65536, infinite in float16, must scale a gradient that is computed before."""
    check(*inputs(form, torch.float16, 8, 2, 250, 250), grad_output=65536.0)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_map(dtype: torch.dtype) -> None:
    fused, exposures = inputs("fused", dtype, 2, 2, 45, 300)
    grad_output = images(2, 35, 290, dtype=dtype, seed=5)
    mask = images(2, 45, 300, dtype=dtype, seed=6)
    info = torch.finfo(dtype)
    for importance in (None, mask):
        ours = fused.detach().requires_grad_()
        values = functional.weighted_ssim_loss(ours, exposures, mask=importance, reduction="none")
        values.backward(grad_output)
        assert values.dtype == dtype and ours.grad is not None and ours.grad.dtype == dtype

        exact = fused.double().requires_grad_()
        expected = reference.weighted_ssim_loss(exact, exposures.double(), reduction="none")
        weights = grad_output
        if importance is not None:
            cropped = reference.crop_to_centers(importance, 11)
            weights = grad_output * cropped  # rounded, as autograd hands it on
        expected.backward(weights.double())
        if importance is not None:
            expected = expected * cropped.double()
        assert exact.grad is not None
        assert ((values - expected).abs() <= info.eps * expected.abs() + 2e-6).all()
        error = (ours.grad - exact.grad).abs()
        assert (error <= 0.51 * info.eps * exact.grad.abs() + 1e-5 * exact.grad.abs().max()).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_not_a_number_is_not_hidden(dtype: torch.dtype) -> None:
    for form in ("fused", "logits"):
        source, exposures = inputs(form, dtype, 1, 2, 30, 30)
        for bad in (source, exposures):
            spoiled = bad.clone()
            spoiled[..., 12, 12] = float("nan")
            pair = (spoiled, exposures) if bad is source else (source, spoiled)
            value, gradient = evaluate(functional, *pair, grad_output=1.0, scales=(1.0, 1.0))
            assert value.isnan() and gradient.isnan().any()


def test_the_kernels_serve(kernels: Any) -> None:
    for dtype in HALVES:
        source, exposures = inputs("logits", dtype, 1, 2, 20, 21)
        limits = {"window": 11, "scales": (1.0,)}
        assert ops.loss.FUSION_LOSS.backend(source, exposures, None, **limits) == "cpp"
        fused = source[:, 0]
        assert ops.loss.WEIGHTED_SSIM_LOSS.backend(fused, exposures, None, **limits) == "cpp"


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_filters_and_ssim(dtype: torch.dtype) -> None:
    exposures = torch.rand(1, 2, 20, 21).to(dtype)
    fused = exposures.mean(dim=1).requires_grad_()
    assert functional.ssim(fused, exposures[:, 0]).dtype == torch.float32
    similarity = functional.ssim(fused, exposures[:, 0], reduction="none")
    assert similarity.dtype == functional.gamma_weights(exposures).dtype == dtype
