"""The Triton loss against the float64 reference: values, gradients, layouts, determinism."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import LOSS, loss_inputs, scene
from torch import Tensor

from fastmef import backends, functional, reference
from fastmef.ops.common.operation import OPERATIONS

OPTIONS = {**LOSS, "scales": (1.0,)}
Far = Callable[[Tensor, int], Tensor]
HALVES = (torch.float16, torch.bfloat16)


def evaluate(
    source: Tensor, exposures: Tensor, device: torch.device | None, **changes: Any
) -> tuple[Tensor, Tensor]:
    """Return value and gradient w.r.t. source, from kernels on a device or from the reference."""
    options = {**OPTIONS, **changes}
    reduction = options.pop("reduction", "mean")
    mask = options.pop("mask", None)
    mask = None if mask is None else mask.to(source.dtype)
    if device is not None:
        source, exposures = source.to(device), exposures.to(device)
        mask = None if mask is None else mask.to(device)
    source = source.detach().requires_grad_()
    names = "fusion_loss" if source.ndim == 4 else "weighted_ssim_loss"
    if device is not None:
        limits = {"window": options["window"], "scales": options["scales"]}
        assert OPERATIONS[names].backend(source, exposures, mask, **limits) == backends.TRITON
    if source.ndim == 4:
        function = reference.fusion_loss if device is None else functional.fusion_loss
        value = function(source, exposures, **options)
    elif device is not None:
        value = functional.weighted_ssim_loss(
            source, exposures, mask=mask, reduction=reduction, **options
        )
    else:
        value = reference.weighted_ssim_loss(
            source, exposures, mask=mask, reduction=reduction, **options
        )
    grad_output = torch.linspace(0.5, 1.5, max(value.numel(), 1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(value, source, grad_output.to(value).reshape(value.shape))
    assert gradient.dtype == source.dtype
    return value.detach().cpu(), gradient.cpu()


def check(source: Tensor, exposures: Tensor, device: torch.device, **changes: Any) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding.

    All three get the same numbers: those of ``source``'s dtype.
    """
    dtype = source.dtype if source.dtype in HALVES else torch.float32
    source, exposures = source.to(dtype), exposures.to(dtype)
    if changes.get("mask") is not None:
        changes["mask"] = changes["mask"].to(dtype)
    exact = evaluate(source.double(), exposures.double(), None, **changes)
    single = evaluate(source.float(), exposures.float(), None, **changes)
    ours = evaluate(source, exposures, device, **changes)
    is_map = changes.get("reduction") == "none"
    assert ours[0].dtype == (dtype if is_map else torch.float32)
    # The derivatives of one window's SSIM reach 2 / C2 = 2222 times what F and the exposures differ
    # from a constant of the image; where nothing varies they cancel to a few units in the last
    # place, 2222 * 2^-24 = 1.3e-4. A window's share of the mean is 1 / windows.
    coarsest = exposures
    for _ in changes.get("scales", (1.0,))[1:]:
        coarsest = reference.halve(coarsest)
    windows = reference.crop_to_centers(coarsest, changes.get("window", 11))[:, 0].numel()
    windows = 1 if is_map else windows
    largest = [float(x.abs().max()) for x in exact]
    rounding = [2e-7 + 5e-6 / windows, 1e-6 * largest[1] + 5e-4 / windows]
    if dtype in HALVES:
        # Results to the nearest, and a scale of 2^-24 below the smallest normal half; the
        # interpreter truncates to bfloat16.
        unit = torch.finfo(dtype).eps * (1.01 if backends.INTERPRETED else 0.51)
        rounding[1] += unit * largest[1] + 2**-25
        rounding[0] += unit * largest[0] if is_map else 0
    for e, s, o, extra in zip(exact, single, ours, rounding, strict=True):
        assert o.shape == e.shape
        assert (o.double() - e).abs().max() <= 2 * (s.double() - e).abs().max() + extra


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 20), (1, 300), (12, 37)])
def test_sizes(form: str, shape: tuple[int, int], device: torch.device) -> None:
    check(*loss_inputs(form, 1, 2, *shape), device)


@pytest.mark.parametrize("shape, window", [((18, 139), 11), ((35, 131), 3)])
def test_strips_and_bands_meet(shape: tuple[int, int], window: int, device: torch.device) -> None:
    check(*loss_inputs("fused", 1, 1, *shape), device, window=window)


@pytest.mark.parametrize("window, sigma", [(1, 1.5), (7, None), (15, 3.0)])
def test_windows(window: int, sigma: float | None, device: torch.device) -> None:
    check(*loss_inputs("fused", 1, 1, 16, 18), device, window=window, sigma=sigma)


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("scales", [(0.4, 0.35, 0.25), (0.0, 1.0), (1.0, 0.0)])
def test_scales(form: str, scales: tuple[float, ...], device: torch.device) -> None:
    check(*loss_inputs(form, 2, 2, 15, 18), device, scales=scales, window=3)


def test_pyramid_of_more_levels_and_squares_than_one(device: torch.device) -> None:
    check(
        *loss_inputs("fused", 1, 1, 3, 131), device, scales=(1.0,) * 9, window=1, gamma="gradient"
    )


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.0, 0.5)])
def test_mask(scales: tuple[float, ...], device: torch.device) -> None:
    fused, exposures = loss_inputs("fused", 2, 2, 13, 19)
    mask = (scene(2, 13, 19, seed=3) > 0.3).double() * scene(2, 13, 19, seed=4)
    check(fused, exposures, device, mask=mask, scales=scales, window=5)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_mask_in_half_precision(dtype: torch.dtype, device: torch.device) -> None:
    fused, exposures = loss_inputs("fused", 2, 3, 7, 9)
    mask = scene(2, 7, 9, seed=3)
    check(fused.to(dtype), exposures, device, mask=mask, scales=(1.0, 0.5), window=3)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_map_with_grad_output(dtype: torch.dtype, device: torch.device) -> None:
    fused, exposures = loss_inputs("fused", 1, 2, 14, 17)
    mask = None if dtype == torch.float16 else scene(1, 14, 17, seed=3)
    check(fused.to(dtype), exposures, device, reduction="none", mask=mask)


def test_map_with_expanded_grad_output(device: torch.device) -> None:
    fused, exposures = loss_inputs("fused", 1, 2, 12, 13)
    fused, exposures = fused.float().to(device).requires_grad_(), exposures.float().to(device)
    functional.weighted_ssim_loss(fused, exposures, reduction="none", **OPTIONS).sum().backward()
    # The expected gradient is that of the mean of 2 x 3 windows, with a ``grad_output`` of 0.5.
    _, expected = evaluate(fused.detach(), exposures, device)
    assert fused.grad is not None
    torch.testing.assert_close(fused.grad.cpu(), expected * 2 * 6, rtol=1e-4, atol=1e-5)


def test_bright_flat_area_keeps_its_precision(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 13, 20, generator=generator, dtype=torch.float64)
    images = (0.9 + 1e-3 * noise).float().double()
    fused, exposures = images[:, 0], images[:, 1:]
    exact = evaluate(fused, exposures, None, reduction="none")
    ours = evaluate(fused.float(), exposures.float(), device, reduction="none")
    assert (ours[0] - exact[0]).abs().max() < 5e-7
    assert (ours[1] - exact[1]).abs().max() < 2e-5 * exact[1].abs().max()


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("luminance", [False, True])
def test_mean_over_a_bright_flat_area(form: str, luminance: bool, device: torch.device) -> None:
    source, exposures = loss_inputs(form, 1, 3, 6, 9)
    exposures = 0.9 + 2e-3 * (exposures - 0.5)
    source = source if form == "logits" else 0.9 + 2e-3 * (source - 0.5)
    source, exposures = source.float(), exposures.float()
    options = {"luminance": luminance, "window": 5}
    exact = evaluate(source.double(), exposures.double(), None, **options)
    single = evaluate(source, exposures, None, **options)
    ours = evaluate(source, exposures, device, **options)
    for e, s, o in zip(exact, single, ours, strict=True):
        assert (o - e).abs().max() <= 2 * (s - e).abs().max() + 4e-6 * e.abs().max()


@pytest.mark.parametrize("form", ["fused", "mask", "map", "logits"])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_gradients_wrt_every_tensor(form: str, dtype: torch.dtype, device: torch.device) -> None:
    source, exposures = loss_inputs("logits" if form == "logits" else "fused", 1, 2, 4, 5)
    mask = [scene(1, 4, 5, seed=3)] if form == "mask" else []
    options = {"window": 3, "reduction": "none"} if form == "map" else {"window": 3}
    found = []
    for by, where, to in (
        (functional, device, dtype),
        (reference, "cpu", torch.float32),
        (reference, "cpu", torch.float64),
    ):
        leaves = [x.to(dtype).to(where, to).requires_grad_() for x in (source, exposures, *mask)]
        function = by.fusion_loss if form == "logits" else by.weighted_ssim_loss
        value = function(*leaves[:2], **({"mask": leaves[2]} if mask else {}), **options)
        gradients = torch.autograd.grad(value.sum(), leaves)
        assert all(g.dtype == to for g in gradients)
        found.append([x.detach().cpu().double() for x in (value, *gradients)])
    for ours, single, exact in zip(*found, strict=True):
        unit = torch.finfo(dtype).eps * (1.01 if backends.INTERPRETED else 0.51)
        rounding = (unit + 4e-6) * exact.abs().max()
        assert (ours - exact).abs().max() <= 2 * (single - exact).abs().max() + rounding


@pytest.mark.parametrize("axis", range(4))
def test_offsets_beyond_31_bits(axis: int, far: Far, device: torch.device) -> None:
    logits, exposures = (x.float().to(device) for x in loss_inputs("logits", 3, 3, 3, 3))
    near = evaluate(logits, exposures, device, window=3, scales=(1.0, 1.0))
    for x, e in ((far(logits, axis), exposures), (logits, far(exposures, axis))):
        apart = evaluate(x, e, device, window=3, scales=(1.0, 1.0))
        assert all(torch.equal(a, b) for a, b in zip(near, apart, strict=True))
