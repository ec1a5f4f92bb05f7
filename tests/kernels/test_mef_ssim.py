"""The steps of the Triton MEF-SSIM against the float64 reference, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, ops
from fastmef.ops.common.operation import OPERATIONS
from fastmef.reference import mef_ma2015, mef_mefnet


def scene(*shape: int, seed: int = 0) -> Tensor:
    """Return exposures in [0, 1] of the same structure but different brightness and contrast."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.rand(shape[0], 1, *shape[-2:], generator=generator)
    noise = torch.rand(shape, generator=generator)
    level = torch.rand(*shape[:-2], 1, 1, generator=generator)
    return (0.5 * level + 0.3 * common * (0.5 + level) + 0.1 * noise).float()


def fused_of(exposures: Tensor) -> Tensor:
    noise = scene(exposures.shape[0], 1, *exposures.shape[2:], seed=5)[:, 0]
    return 0.8 * exposures.mean(dim=1) + 0.2 * noise


def close(ours: Tensor, exact: Tensor, single: Tensor, rounding: float) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding."""
    assert ours.shape == exact.shape
    budget = 2 * (single.double() - exact).abs().max() + rounding * exact.abs().max() + 1e-12
    assert (ours.cpu().double() - exact).abs().max() <= budget


def with_gradient(function: Any, sources: Any, fused: Tensor) -> list[Tensor]:
    x = fused.detach().requires_grad_()
    scores = function(sources, x)
    scores = scores if isinstance(scores, tuple) else (scores,)
    weights = (torch.tensor([0.75, -0.5], dtype=x.dtype, device=x.device)[: len(x)],) * 2
    torch.autograd.backward(scores, weights[: len(scores)])
    assert x.grad is not None
    return [*(y.detach() for y in scores), x.grad]


def to(sources: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return type(sources)(
        *(x.to(device, dtype) if x.is_floating_point() else x.to(device) for x in sources)
    )


SHAPES = [(2, 2, 1, 1), (1, 2, 2, 5), (1, 3, 4, 3), (1, 2, 12, 11), (1, 5, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_ma2015_level(shape: tuple[int, ...], device: torch.device) -> None:
    images = 255 * scene(*shape)
    assert OPERATIONS["mef_ssim"].backend(images.to(device)) == backends.TRITON
    ours = ops.mef_ssim.ma2015_level(images.to(device))
    exact = mef_ma2015.ma2015_level(images.double())
    single = mef_ma2015.ma2015_level(images)
    for o, e, s in zip(ours, exact, single, strict=True):
        close(o, e, s, 3e-6)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 2, 3, 131)])
def test_ma2015_quality(shape: tuple[int, ...], device: torch.device) -> None:
    images, fused = 255 * scene(*shape), 255 * fused_of(scene(*shape))
    level = mef_ma2015.ma2015_level(images.double())
    results = [
        with_gradient(function, to(level, where, dtype), fused.to(where, dtype))
        for function, where, dtype in (
            (ops.mef_ssim.ma2015_quality, device, torch.float32),
            (mef_ma2015.ma2015_quality, torch.device("cpu"), torch.float64),
            (mef_ma2015.ma2015_quality, torch.device("cpu"), torch.float32),
        )
    ]
    for o, e, s in zip(*results, strict=True):
        close(o, e, s, 2e-6)


def test_ma2015_of_flat_exposures(device: torch.device) -> None:
    images = 255 * scene(1, 3, 12, 12)
    images[:, 1] = 200.0
    ours = ops.mef_ssim.ma2015_level(images.to(device))
    exact = mef_ma2015.ma2015_level(images.double())
    single = mef_ma2015.ma2015_level(images)
    assert not ours.gains[:, 1].any()
    for o, e, s in zip(ours, exact, single, strict=True):
        close(o, e, s, 3e-6)
    flat = ops.mef_ssim.ma2015_level(torch.full((1, 2, 5, 5), 80.0, device=device))
    assert not flat.gains.any() and not flat.variance.any()


def test_ma2015_of_exposures_that_cancel(device: torch.device) -> None:
    half = 100 * scene(1, 1, 7, 7)
    level = ops.mef_ssim.ma2015_level(torch.cat((half, 200 - half), dim=1).to(device))
    assert all(x.isfinite().all() for x in level)
    assert level.gains.abs().max() < 10


@pytest.mark.parametrize("shape", SHAPES)
def test_mefnet_sources(shape: tuple[int, ...], device: torch.device) -> None:
    exposures = scene(*shape)
    ours = ops.mef_ssim.mefnet_sources(exposures.to(device))
    exact = mef_mefnet.mefnet_sources(exposures.double())
    single = mef_mefnet.mefnet_sources(exposures)
    assert torch.equal(ours.reference.cpu(), exact.reference)
    for name in ("mean", "variance", "luminance"):
        close(getattr(ours, name), getattr(exact, name), getattr(single, name), 4e-7)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 2, 3, 131)])
def test_mefnet_factors(shape: tuple[int, ...], device: torch.device) -> None:
    exposures = scene(*shape)
    fused = fused_of(exposures)
    sources = mef_mefnet.mefnet_sources(exposures.double())
    results = [
        with_gradient(function, to(sources, where, dtype), fused.to(where, dtype))
        for function, where, dtype in (
            (ops.mef_ssim.mefnet_factors, device, torch.float32),
            (mef_mefnet.mefnet_factors, torch.device("cpu"), torch.float64),
            (mef_mefnet.mefnet_factors, torch.device("cpu"), torch.float32),
        )
    ]
    for o, e, s in zip(*results, strict=True):
        close(o, e, s, 2e-6)


def test_without_gradient_the_scores_are_the_same(device: torch.device) -> None:
    exposures = scene(1, 2, 6, 7).to(device)
    fused = fused_of(exposures.cpu()).to(device)
    sources = ops.mef_ssim.mefnet_sources(exposures)
    level = ops.mef_ssim.ma2015_level(255 * exposures)
    for function, maps, image in (
        (ops.mef_ssim.mefnet_factors, sources, fused),
        (ops.mef_ssim.ma2015_quality, level, 255 * fused),
    ):
        *scores, _ = with_gradient(function, maps, image)
        alone = function(maps, image)
        alone = alone if isinstance(alone, tuple) else (alone,)
        assert all(torch.equal(a, s) for a, s in zip(alone, scores, strict=True))
