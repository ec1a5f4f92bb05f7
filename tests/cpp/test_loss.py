"""The C++ loss against the float64 reference: values, gradients, shapes, layouts, determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import LOSS, loss_inputs, same_bits_in_threads, scene
from torch import Tensor

from fastmef import functional, reference

OPTIONS = {**LOSS, "scales": (1.0,)}

pytestmark = pytest.mark.usefixtures("kernels")


def evaluate(
    by: str, source: Tensor, exposures: Tensor, dtype: torch.dtype, **changes: Any
) -> tuple[Tensor, Tensor]:
    """Return value and gradient w.r.t. source of one implementation as float64."""
    options = {**OPTIONS, **changes}
    reduction = options.pop("reduction", "mean")
    mask = options.pop("mask", None)
    mask = None if mask is None else mask.to(dtype)
    source = source.to(dtype).clone(memory_format=torch.preserve_format).requires_grad_()
    exposures = exposures.to(dtype)
    if source.ndim == 4:
        function = functional.fusion_loss if by == "cpp" else reference.fusion_loss
        value = function(source, exposures, **options)
    elif by == "cpp":
        value = functional.weighted_ssim_loss(
            source, exposures, mask=mask, reduction=reduction, **options
        )
    else:
        value = reference.weighted_ssim_loss(
            source, exposures, mask=mask, reduction=reduction, **options
        )
    grad_output = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=dtype).reshape(value.shape)
    value.backward(grad_output)
    assert source.grad is not None
    return value.detach().double(), source.grad.double()


def check_double(source: Tensor, exposures: Tensor, **changes: Any) -> None:
    exact = evaluate("reference", source, exposures, torch.float64, **changes)
    ours = evaluate("cpp", source, exposures, torch.float64, **changes)
    for e, o in zip(exact, ours, strict=True):
        assert (o - e).abs().max() <= 1e-12 * (1 + e.abs().max())


def check(source: Tensor, exposures: Tensor, **changes: Any) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding."""
    check_double(source, exposures, **changes)
    exact = evaluate("reference", source, exposures, torch.float64, **changes)
    single = evaluate("reference", source, exposures, torch.float32, **changes)
    ours = evaluate("cpp", source, exposures, torch.float32, **changes)
    # The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
    windows = reference.crop_to_centers(exposures, changes.get("window", 11))[:, 0].numel()
    rounding = (2e-7 + 5e-6 / windows, 1e-6 * float(exact[1].abs().max()) + 1e-4 / windows)
    for e, s, o, extra in zip(exact, single, ours, rounding, strict=True):
        assert (o - e).abs().max() <= 2 * (s - e).abs().max() + extra


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (2, 2), (3, 100), (1, 100000), (3000, 1), (10, 10), (11, 11), (12, 37), (129, 270)],
)
@pytest.mark.parametrize("exposures", [1, 2, 5])
def test_sizes(form: str, shape: tuple[int, int], exposures: int) -> None:
    check(*loss_inputs(form, 1, exposures, *shape))


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("shape", [(64, 64), (61, 83), (35, 530), (300, 9)])
@pytest.mark.parametrize("scales", [(0.4, 0.35, 0.25), (0.0, 1.0), (1.0, 0.0, 2.0)])
def test_scales(form: str, shape: tuple[int, int], scales: tuple[float, ...]) -> None:
    check(*loss_inputs(form, 1, 2, *shape), scales=scales)


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_more_scales_than_the_image_has(form: str) -> None:
    for shape in ((35, 530), (1, 300), (1, 1)):
        check_double(*loss_inputs(form, 1, 2, *shape), scales=(1.0,) * 40)


@pytest.mark.parametrize("window, sigma", [(1, 1.5), (3, 1.5), (7, None), (11, None), (21, 3.0)])
def test_windows(window: int, sigma: float | None) -> None:
    check(*loss_inputs("fused", 1, 2, 50, 60), window=window, sigma=sigma)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.3, 0.2)])
def test_mask(scales: tuple[float, ...]) -> None:
    fused, exposures = loss_inputs("fused", 2, 2, 45, 51)
    mask = (scene(2, 45, 51, seed=3) > 0.5).double() * scene(2, 45, 51, seed=4)
    check(fused, exposures, mask=mask, scales=scales)


def test_map_with_grad_output() -> None:
    fused, exposures = loss_inputs("fused", 2, 2, 45, 300)
    check(fused, exposures, reduction="none")
    check(fused, exposures, reduction="none", mask=scene(2, 45, 300, seed=3))


def test_map_with_expanded_grad_output() -> None:
    fused, exposures = loss_inputs("fused", 1, 2, 20, 20)
    fused.requires_grad_()
    functional.weighted_ssim_loss(fused, exposures, reduction="none", **OPTIONS).sum().backward()
    _, expected = evaluate("reference", fused.detach(), exposures, torch.float64)
    assert fused.grad is not None
    torch.testing.assert_close(fused.grad, expected * 200)


def test_bright_flat_area_keeps_its_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    exposures = 0.9 + 1e-3 * torch.randn(1, 2, 64, 64, generator=generator, dtype=torch.float64)
    fused = 0.9 + 1e-3 * torch.randn(1, 64, 64, generator=generator, dtype=torch.float64)
    exposures, fused = exposures.float().double(), fused.float().double()
    exact = evaluate("reference", fused, exposures, torch.float64, reduction="none")
    ours = evaluate("cpp", fused, exposures, torch.float32, reduction="none")
    assert (ours[0] - exact[0]).abs().max() < 5e-7


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_strided_loss_inputs(form: str) -> None:
    source, exposures = loss_inputs(form, 2, 3, 80, 90)
    source, exposures = source[..., ::2, 1::3], exposures[..., ::2, 1::3]
    assert not exposures.is_contiguous()
    check(source, exposures, scales=(1.0, 1.0))
    source, exposures = loss_inputs(form, 2, 3, 40, 50)
    transposed = exposures.to(memory_format=torch.channels_last)
    check(source.transpose(-1, -2), transposed.transpose(-1, -2))
    check(source[:1].expand_as(source), exposures[:, :1].expand_as(exposures))


def test_gradcheck() -> None:
    for form in ("fused", "logits"):
        source, exposures = loss_inputs(form, 1, 2, 13, 14)
        source.requires_grad_()

        def loss(x: Tensor, e: Tensor = exposures, form: str = form) -> Tensor:
            options = {**OPTIONS, "scales": (1.0, 0.5), "luminance": True}
            if form == "logits":
                return functional.fusion_loss(x, e, **options)
            return functional.weighted_ssim_loss(x, e, **options)

        assert torch.autograd.gradcheck(loss, source, atol=1e-7)


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_same_bits_for_any_number_of_threads(form: str) -> None:
    source, exposures = loss_inputs(form, 2, 2, 150, 300)
    # Rounding to float32 would hide another order of the sums.
    same_bits_in_threads(
        lambda: evaluate("cpp", source, exposures, torch.float64, scales=(1.0, 0.5))
    )


def test_without_gradient_the_value_is_the_same() -> None:
    fused, exposures = loss_inputs("fused", 1, 2, 150, 300)
    value, _ = evaluate("cpp", fused, exposures, torch.float64)
    with torch.no_grad():
        alone = functional.weighted_ssim_loss(fused, exposures, **OPTIONS)
    assert not alone.requires_grad
    torch.testing.assert_close(alone, value, rtol=0, atol=1e-14)


def test_not_a_number_is_not_hidden() -> None:
    for bad in (float("nan"), float("inf")):
        for plane in ("source", "exposures"):
            for form in ("fused", "logits"):
                source, exposures = loss_inputs(form, 1, 2, 30, 30)
                (source if plane == "source" else exposures)[..., 12, 12] = bad
                if plane == "source" and form == "logits" and bad == float("inf"):
                    source[:, 1, 12, 12] = bad
                with torch.no_grad():
                    if form == "fused":
                        out = functional.weighted_ssim_loss(
                            source.float(), exposures.float(), **OPTIONS
                        )
                    else:
                        out = functional.fusion_loss(source.float(), exposures.float(), **OPTIONS)
                assert out.isnan()
