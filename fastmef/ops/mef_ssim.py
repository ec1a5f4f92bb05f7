"""MEF-SSIM ma2015 and mefnet: maps of the exposures, scores of fused images with their gradient.

The score of one scale is made together with its gradient by the fused image, if that is wanted; the
backward pass only scales. No gradient flows to the exposures. The C++ kernels take contiguous
tensors; others are copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops._arrays import axis_taps, gradient_like, map_shape, require
from fastmef.ops._library import register, triton_launcher
from fastmef.ops._recording import recorded
from fastmef.reference import mef_ma2015, mef_mefnet
from fastmef.reference.mef_ma2015 import WINDOW, Ma2015Level
from fastmef.reference.mef_mefnet import MefnetSources
from fastmef.reference.mef_ssim import Steps

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def mef_shape(images: Tensor, sigma: float) -> Any:
    """The sizes and windows of ``(B, K, H, W)``, as the compiled module takes them."""
    require(
        images.ndim == 4 and images.numel() > 0 and images.dtype in (torch.float32, torch.float64),
        f"scores of {images.dtype} {tuple(images.shape)} are not defined",
    )
    height, width = images.shape[2:]
    taps = axis_taps(WINDOW, sigma, height), axis_taps(WINDOW, sigma, width)
    return backends.CPU.MefShape(  # type: ignore[union-attr]
        tuple(images.shape), *taps, torch.get_num_threads()
    )


def addresses(*tensors: Tensor) -> tuple[int, ...]:
    """0 where there is nothing to read or write."""
    return tuple(x.data_ptr() if x.numel() else 0 for x in tensors)


def require_fit(exposures: Tensor, planes: dict[tuple[int, ...], Sequence[Tensor]]) -> None:
    """That tensors have the shape they are listed under, and the dtype of the exposures."""
    require(
        all(
            x.shape == shape and x.dtype == exposures.dtype
            for shape, tensors in planes.items()
            for x in tensors
        ),
        f"what is given beside exposures {tuple(exposures.shape)} does not fit them",
    )


def plane_shape(exposures: Tensor) -> tuple[int, ...]:
    require(exposures.ndim == 4, f"scores of {tuple(exposures.shape)} are not defined")
    return (exposures.shape[0], *exposures.shape[2:])


def _level_like(images: Tensor) -> Four:
    batch, count, height, width = images.shape
    *_, rows, columns = map_shape(images, WINDOW, "valid")
    return (
        images.new_empty((batch, count, height, width)),
        images.new_empty((batch, count, rows, columns)),
        images.new_empty((batch, count, rows, columns)),
        images.new_empty((batch, rows, columns)),
    )


def _level_cpu(images: Tensor) -> Four:
    images = images.contiguous()
    maps = _level_like(images)
    backends.CPU.ma2015_level(  # type: ignore[union-attr]
        images.dtype == torch.float64,
        mef_shape(images, mef_ma2015.SIGMA),
        images.data_ptr(),
        addresses(*maps),
    )
    return maps


def _quality_like(
    exposures: Tensor,
    means: Tensor,
    gains: Tensor,
    variance: Tensor,
    fused: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    return fused.new_empty(fused.shape[:1]), gradient_like(fused, with_gradient)


def _quality_cpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    *maps, fused = (x.contiguous() for x in arguments[:-1])
    exposures, means, gains, variance = maps
    plane = plane_shape(exposures)
    windows = map_shape(exposures, WINDOW, "valid")
    require_fit(exposures, {plane: [fused], windows: [means, gains]})
    require_fit(exposures, {(plane[0], *windows[2:]): [variance]})
    quality, gradient = _quality_like(*arguments)
    backends.CPU.ma2015_quality(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        mef_shape(maps[0], mef_ma2015.SIGMA),
        addresses(*maps),
        (*addresses(fused, quality), 0, *addresses(gradient), 0),
        mef_ma2015.C,
    )
    return quality, gradient


def _mefnet_sources_like(exposures: Tensor) -> Four:
    batch, _, height, width = exposures.shape
    reference = exposures.new_empty((batch, 1, height, width), dtype=torch.int64)
    mean, variance, luminance = (exposures.new_empty((batch, height, width)) for _ in range(3))
    return reference, mean, variance, luminance


def _mefnet_sources_cpu(exposures: Tensor) -> Four:
    exposures = exposures.contiguous()
    maps = _mefnet_sources_like(exposures)
    backends.CPU.mefnet_sources(  # type: ignore[union-attr]
        exposures.dtype == torch.float64,
        mef_shape(exposures, mef_mefnet.SIGMA),
        addresses(exposures, *maps),
    )
    return maps


def _mefnet_factors_like(
    exposures: Tensor,
    reference: Tensor,
    mean: Tensor,
    variance: Tensor,
    luminance: Tensor,
    fused: Tensor,
    with_gradient: bool,
) -> Four:
    values = fused.new_empty(fused.shape[:1]), fused.new_empty(fused.shape[:1])
    return *values, gradient_like(fused, with_gradient), gradient_like(fused, with_gradient)


def _mefnet_factors_cpu(*arguments: Any) -> Four:
    *maps, fused = (x.contiguous() for x in arguments[:-1])
    exposures, reference, *planes = maps
    plane = plane_shape(exposures)
    require_fit(exposures, {plane: [*planes, fused]})
    require(
        reference.dtype == torch.int64 and reference.shape == (plane[0], 1, *plane[1:]),
        f"the reference does not fit exposures {tuple(exposures.shape)}",
    )
    factors = _mefnet_factors_like(*arguments)
    luminance, structure, by_luminance, by_structure = addresses(*factors)
    backends.CPU.mefnet_factors(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        mef_shape(maps[0], mef_mefnet.SIGMA),
        addresses(*maps),
        (fused.data_ptr(), structure, luminance, by_structure, by_luminance),
        mef_mefnet.C1,
        mef_mefnet.C2,
    )
    return factors


_level = register(
    "ma2015_level(Tensor images) -> (Tensor, Tensor, Tensor, Tensor)",
    _level_like,
    cpp=_level_cpu,
    triton=triton_launcher("mef_ssim.ma2015_level", "ma2015_level"),
)
_quality = register(
    "ma2015_quality(Tensor exposures, Tensor means, Tensor gains, Tensor variance, Tensor fused, "
    "bool with_gradient) -> (Tensor, Tensor)",
    _quality_like,
    cpp=_quality_cpu,
    triton=triton_launcher("mef_ssim.scores", "ma2015_quality"),
)
_mefnet_sources = register(
    "mefnet_sources(Tensor exposures) -> (Tensor, Tensor, Tensor, Tensor)",
    _mefnet_sources_like,
    cpp=_mefnet_sources_cpu,
    triton=triton_launcher("mef_ssim.mefnet_sources", "mefnet_sources"),
)
_mefnet_factors = register(
    "mefnet_factors(Tensor exposures, Tensor reference, Tensor mean, Tensor variance, "
    "Tensor luminance, Tensor fused, bool with_gradient) -> (Tensor, Tensor, Tensor, Tensor)",
    _mefnet_factors_like,
    cpp=_mefnet_factors_cpu,
    triton=triton_launcher("mef_ssim.scores", "mefnet_factors"),
)


def scaled(upstream: Tensor, gradient: Tensor) -> Tensor:
    return upstream[:, None, None] * gradient


class Quality(torch.autograd.Function):
    """``(B,)`` of one scale of ma2015."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, *maps: Tensor) -> Tensor:
        quality, gradient = _quality(*maps, fused, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return quality

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return scaled(upstream, gradient), *(None,) * len(Ma2015Level._fields)


class Factors(torch.autograd.Function):
    """The two factors of mefnet, each ``(B,)``."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        luminance, structure, *gradients = _mefnet_factors(*maps, fused, ctx.needs_input_grad[0])
        ctx.save_for_backward(*gradients)
        return luminance, structure

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_luminance: Tensor, by_structure: Tensor) -> Any:
        luminance, structure = ctx.saved_tensors
        gradient = scaled(by_luminance, luminance) + scaled(by_structure, structure)
        return gradient, *(None,) * len(MefnetSources._fields)


def _is_served(*tensors: Tensor) -> bool:
    return backends.choose("mef_ssim", *tensors) != backends.REFERENCE


def ma2015_level(images: Tensor) -> Ma2015Level:
    if _is_served(images):
        return Ma2015Level(*_level(images))
    return mef_ma2015.ma2015_level(images)


def ma2015_quality(level: Ma2015Level, fused: Tensor) -> Tensor:
    if _is_served(*level, fused):
        return Quality.apply(recorded(fused), *level)
    return mef_ma2015.ma2015_quality(level, fused)


def ma2015_sources(exposures: Tensor, scales: int = 3) -> tuple[Ma2015Level, ...]:
    return mef_ma2015.ma2015_sources(exposures, scales, ma2015_level)


def ma2015_qualities(sources: Sequence[Ma2015Level], fused: Tensor) -> Tensor:
    return mef_ma2015.ma2015_qualities(sources, fused, ma2015_quality)


@torch.no_grad()
def mefnet_sources(exposures: Tensor) -> MefnetSources:
    if _is_served(exposures):
        return MefnetSources(exposures, *_mefnet_sources(exposures))
    return mef_mefnet.mefnet_sources(exposures)


def mefnet_factors(sources: MefnetSources, fused: Tensor) -> tuple[Tensor, Tensor]:
    floats = (sources.exposures, sources.mean, sources.variance, sources.luminance)
    if _is_served(*floats, fused):
        return Factors.apply(recorded(fused), *sources)
    return mef_mefnet.mefnet_factors(sources, fused)


STEPS = Steps(
    ma2015_sources=ma2015_sources,
    ma2015_qualities=ma2015_qualities,
    mefnet_sources=mefnet_sources,
    mefnet_factors=mefnet_factors,
)
"""The steps of MEF-SSIM through these operations."""
