"""MEF-SSIM ma2015 and mefnet: maps of the exposures, scores of fused images with their gradient.

The score of one scale is computed together with its gradient w.r.t. the fused image, if that is
wanted; the backward pass only scales. No gradient flows to the exposures. The kernels take
contiguous tensors; others are copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.ops.common.operation import LaunchError, Operation, Support, triton_launcher
from fastmef.ops.common.tensors import gradient_like, map_shape, require, window_taps
from fastmef.reference import mef_ma2015, mef_mefnet
from fastmef.reference.mef_ma2015 import WINDOW, Ma2015Level
from fastmef.reference.mef_mefnet import MefnetSources
from fastmef.reference.mef_ssim import Steps

Four = tuple[Tensor, Tensor, Tensor, Tensor]

MEF_SSIM = Operation(
    "mef_ssim",
    cpp=Support((torch.float32, torch.float64)),
    triton=Support((torch.float32,)),
)


def mef_shape(images: Tensor, sigma: float) -> Any:
    """Return the sizes and windows of ``(B, K, H, W)`` as the compiled module takes them."""
    require(
        images.ndim == 4 and images.numel() > 0 and images.dtype in (torch.float32, torch.float64),
        f"scores of {images.dtype} {tuple(images.shape)} are not defined",
    )
    taps = window_taps(images, WINDOW, sigma)
    return backends.CPU.MefShape(  # type: ignore[union-attr]
        tuple(images.shape), *taps, torch.get_num_threads()
    )


def addresses(*tensors: Tensor) -> tuple[int, ...]:
    """Return addresses, 0 where there is nothing to read or write."""
    return tuple(x.data_ptr() if x.numel() else 0 for x in tensors)


def require_fit(exposures: Tensor, planes: dict[tuple[int, ...], Sequence[Tensor]]) -> None:
    """Require the shape that tensors are listed under, and the dtype of the exposures."""
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
    luminance, structure, grad_luminance, grad_structure = addresses(*factors)
    backends.CPU.mefnet_factors(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        mef_shape(maps[0], mef_mefnet.SIGMA),
        addresses(*maps),
        (fused.data_ptr(), structure, luminance, grad_structure, grad_luminance),
        mef_mefnet.C1,
        mef_mefnet.C2,
    )
    return factors


_launch_level = triton_launcher("mef_ssim.ma2015_level", "ma2015_level")
_launch_quality = triton_launcher("mef_ssim.scores", "ma2015_quality")
_launch_mefnet_sources = triton_launcher("mef_ssim.mefnet_sources", "mefnet_sources")
_launch_mefnet_factors = triton_launcher("mef_ssim.scores", "mefnet_factors")


def _level_triton(images: Tensor) -> Four:
    return _launch_level(images, window_taps(images, WINDOW, mef_ma2015.SIGMA))


def _quality_triton(*arguments: Any) -> tuple[Tensor, Tensor]:
    taps = window_taps(arguments[0], WINDOW, mef_ma2015.SIGMA)
    return _launch_quality(*arguments, taps, mef_ma2015.C)


def _mefnet_sources_triton(exposures: Tensor) -> Four:
    return _launch_mefnet_sources(exposures, window_taps(exposures, WINDOW, mef_mefnet.SIGMA))


def _mefnet_factors_triton(*arguments: Any) -> Four:
    taps = window_taps(arguments[0], WINDOW, mef_mefnet.SIGMA)
    return _launch_mefnet_factors(*arguments, taps, mef_mefnet.C1, mef_mefnet.C2)


_level = MEF_SSIM.register(
    "ma2015_level(Tensor images) -> (Tensor, Tensor, Tensor, Tensor)",
    _level_like,
    cpp=_level_cpu,
    triton=_level_triton,
)
_quality = MEF_SSIM.register(
    "ma2015_quality(Tensor exposures, Tensor means, Tensor gains, Tensor variance, Tensor fused, "
    "bool with_gradient) -> (Tensor, Tensor)",
    _quality_like,
    cpp=_quality_cpu,
    triton=_quality_triton,
)
_mefnet_sources = MEF_SSIM.register(
    "mefnet_sources(Tensor exposures) -> (Tensor, Tensor, Tensor, Tensor)",
    _mefnet_sources_like,
    cpp=_mefnet_sources_cpu,
    triton=_mefnet_sources_triton,
)
_mefnet_factors = MEF_SSIM.register(
    "mefnet_factors(Tensor exposures, Tensor reference, Tensor mean, Tensor variance, "
    "Tensor luminance, Tensor fused, bool with_gradient) -> (Tensor, Tensor, Tensor, Tensor)",
    _mefnet_factors_like,
    case=lambda exposures, reference, *others: ((exposures, *others[:-1]), {}),
    cpp=_mefnet_factors_cpu,
    triton=_mefnet_factors_triton,
)


def scaled(grad_score: Tensor, gradient: Tensor) -> Tensor:
    """Scale the gradient of each image by that of its score, ``(B,)``."""
    return grad_score[:, None, None] * gradient


class Quality(torch.autograd.Function):
    """``(B,)`` of one scale of ma2015."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, *maps: Tensor) -> Tensor:
        quality, gradient = _quality(*maps, fused, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return quality

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_quality: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return scaled(grad_quality, gradient), *(None,) * len(Ma2015Level._fields)


class Factors(torch.autograd.Function):
    """The two factors of mefnet, each ``(B,)``."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        luminance, structure, *gradients = _mefnet_factors(*maps, fused, ctx.needs_input_grad[0])
        ctx.save_for_backward(*gradients)
        return luminance, structure

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_luminance: Tensor, grad_structure: Tensor) -> Any:
        luminance, structure = ctx.saved_tensors
        gradient = scaled(grad_luminance, luminance) + scaled(grad_structure, structure)
        return gradient, *(None,) * len(MefnetSources._fields)


def ma2015_level(images: Tensor) -> Ma2015Level:
    if MEF_SSIM.has_kernels_for(images):
        try:
            return Ma2015Level(*_level(images))
        except LaunchError:
            pass
    return mef_ma2015.ma2015_level(images)


def ma2015_quality(level: Ma2015Level, fused: Tensor) -> Tensor:
    if MEF_SSIM.has_kernels_for(*level, fused):
        try:
            return Quality.apply(detach_if_no_grad(fused), *level)
        except LaunchError:
            pass
    return mef_ma2015.ma2015_quality(level, fused)


def ma2015_sources(exposures: Tensor, scales: int = 3) -> tuple[Ma2015Level, ...]:
    return mef_ma2015.ma2015_sources(exposures, scales, ma2015_level)


def ma2015_qualities(sources: Sequence[Ma2015Level], fused: Tensor) -> Tensor:
    return mef_ma2015.ma2015_qualities(sources, fused, ma2015_quality)


@torch.no_grad()
def mefnet_sources(exposures: Tensor) -> MefnetSources:
    if MEF_SSIM.has_kernels_for(exposures):
        try:
            return MefnetSources(exposures, *_mefnet_sources(exposures))
        except LaunchError:
            pass
    return mef_mefnet.mefnet_sources(exposures)


def mefnet_factors(sources: MefnetSources, fused: Tensor) -> tuple[Tensor, Tensor]:
    floats = (sources.exposures, sources.mean, sources.variance, sources.luminance)
    if MEF_SSIM.has_kernels_for(*floats, fused):
        try:
            return Factors.apply(detach_if_no_grad(fused), *sources)
        except LaunchError:
            pass
    return mef_mefnet.mefnet_factors(sources, fused)


STEPS = Steps(
    ma2015_sources=ma2015_sources,
    ma2015_qualities=ma2015_qualities,
    mefnet_sources=mefnet_sources,
    mefnet_factors=mefnet_factors,
)
"""The steps of MEF-SSIM through these operations."""
