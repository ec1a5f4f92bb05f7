"""MEF-SSIM: maps of the exposures, scores of fused images with their gradient.

The score of one scale is computed together with its gradient w.r.t. the fused image, if that is
wanted; the backward pass only scales the gradient. No gradient flows to the exposures.

The C++ kernel of ma2015 can also compute the maps row by row without storing them. This is faster
for a single result; for many results of one scene the maps are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops import mef_ssim_kernels as kernels
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.ops.common.operation import LaunchError, Operation, Support
from fastmef.ops.common.transforms import Function, once_differentiable, requires_grad
from fastmef.reference import mef_color2018, mef_ma2015, mef_mefnet
from fastmef.reference.filters import halve
from fastmef.reference.mef_color2018 import Color2018Sources
from fastmef.reference.mef_ma2015 import SIGMA, WINDOW, Ma2015Level
from fastmef.reference.mef_mefnet import MefnetSources
from fastmef.reference.mef_ssim import Steps, mef_ssim_score, mef_ssim_sources

MEF_SSIM = Operation(
    "mef_ssim",
    in_transforms=True,
    cpp=Support((torch.float32, torch.float64)),
    triton=Support((torch.float32,)),
)

COLOR2018 = Operation("color2018", in_transforms=True, cpp=Support((torch.float32, torch.float64)))

_level = MEF_SSIM.register(
    "ma2015_level(Tensor images, int window=11, float sigma=1.5)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    kernels.new_level,
    cpp=kernels.cpp_level,
    triton=kernels.triton_level,
)
_quality = MEF_SSIM.register(
    "ma2015_quality(Tensor exposures, Tensor? means, Tensor? gains, Tensor? variance, "
    "Tensor fused, bool with_gradient, int window=11, float sigma=1.5) -> (Tensor, Tensor)",
    kernels.new_quality,
    cpp=kernels.cpp_quality,
    triton=kernels.triton_quality,
)
_mefnet_sources = MEF_SSIM.register(
    "mefnet_sources(Tensor exposures) -> (Tensor, Tensor, Tensor, Tensor)",
    kernels.new_mefnet_sources,
    cpp=kernels.cpp_mefnet_sources,
    triton=kernels.triton_mefnet_sources,
)
_mefnet_factors = MEF_SSIM.register(
    "mefnet_factors(Tensor exposures, Tensor reference, Tensor mean, Tensor variance, "
    "Tensor luminance, Tensor fused, bool with_gradient) -> (Tensor, Tensor, Tensor, Tensor)",
    kernels.new_mefnet_factors,
    case=lambda exposures, reference, *others: ((exposures, *others[:-1]), {}),
    cpp=kernels.cpp_mefnet_factors,
    triton=kernels.triton_mefnet_factors,
)
_color2018_sources = COLOR2018.register(
    "color2018_sources(Tensor exposures) -> (Tensor, Tensor, Tensor, Tensor)",
    kernels.new_color2018_sources,
    cpp=kernels.cpp_color2018_sources,
)
_color2018_score = COLOR2018.register(
    "color2018_score(Tensor exposures, Tensor reference, Tensor mean, Tensor variance, "
    "Tensor luminance, Tensor fused, bool with_gradient) -> (Tensor, Tensor)",
    kernels.new_color2018_score,
    case=lambda exposures, reference, *others: ((exposures, *others[:-1]), {}),
    cpp=kernels.cpp_color2018_score,
)
_halve = MEF_SSIM.register(
    "halve(Tensor images) -> Tensor", kernels.new_half, cpp=kernels.cpp_halve
)


def _scaled(grad_score: Tensor, gradient: Tensor) -> Tensor:
    """Multiply the gradient of each image ``(B, ...)`` with that of its score ``(B,)``."""
    return grad_score.reshape(-1, *(1,) * (gradient.ndim - 1)) * gradient


class Quality(Function):
    """Compute one scale of ma2015, ``(B,)``, with its gradient.

    The images are in 0-255 if the maps are given, and in [0, 1] if they are computed row by row.
    """

    @staticmethod
    def forward(
        fused: Tensor, with_gradient: bool, window: int, sigma: float, *maps: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return _quality(*maps, fused, with_gradient, window, sigma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(outputs[1])
        ctx.save_for_backward(outputs[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_quality: Tensor, _: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return _scaled(grad_quality, gradient), *(None,) * (3 + len(Ma2015Level._fields))


class Factors(Function):
    """Compute the two factors of mefnet, each ``(B,)``, with their gradients."""

    @staticmethod
    def forward(fused: Tensor, with_gradient: bool, *maps: Tensor) -> kernels.Four:
        return _mefnet_factors(*maps, fused, with_gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: kernels.Four) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[2:])
        ctx.save_for_backward(*outputs[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> Any:
        luminance, structure = (
            _scaled(gradient.new_zeros(len(gradient)) if grad is None else grad, gradient)
            for grad, gradient in zip(grad_outputs, ctx.saved_tensors, strict=False)
        )
        return luminance + structure, None, *(None,) * len(MefnetSources._fields)


class ColorScore(Function):
    """Compute color2018, ``(B,)``, with its gradient ``(B, 3, H, W)``."""

    @staticmethod
    def forward(fused: Tensor, with_gradient: bool, *maps: Tensor) -> tuple[Tensor, Tensor]:
        return _color2018_score(*maps, fused, with_gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        Quality.setup_context(ctx, inputs, outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_score: Tensor, _: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return _scaled(grad_score, gradient), None, *(None,) * len(Color2018Sources._fields)


class Halve(Function):
    """Halve the size, like :func:`fastmef.reference.filters.halve`."""

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        return _halve(images)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.size = inputs[0].shape[-2:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        height, width = ctx.size
        scaled = 0.25 * grad_output
        # A repeated last row or column counts twice.
        if height % 2:
            scaled = torch.cat((scaled[..., :-1, :], 2 * scaled[..., -1:, :]), dim=-2)
        if width % 2:
            scaled = torch.cat((scaled[..., :-1], 2 * scaled[..., -1:]), dim=-1)
        rows, columns = scaled.shape[-2:]
        blocks = scaled[..., :, None, :, None].expand(*scaled.shape[:-1], 2, columns, 2)
        doubled = blocks.reshape(*scaled.shape[:-2], 2 * rows, 2 * columns)
        return doubled[..., :height, :width]


def ma2015_level(images: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Ma2015Level:
    if MEF_SSIM.has_kernels_for(images):
        try:
            return Ma2015Level(*_level(images, window, sigma))
        except LaunchError:
            pass
    return mef_ma2015.ma2015_level(images, window, sigma)


def ma2015_quality(
    level: Ma2015Level, fused: Tensor, window: int = WINDOW, sigma: float = SIGMA
) -> Tensor:
    if MEF_SSIM.has_kernels_for(*level, fused):
        try:
            fused = detach_if_no_grad(fused)
            return Quality.apply(fused, requires_grad(fused), window, sigma, *level)[0]
        except LaunchError:
            pass
    return mef_ma2015.ma2015_quality(level, fused, window, sigma)


def ma2015_sources(exposures: Tensor, scales: int = 3) -> tuple[Ma2015Level, ...]:
    return mef_ma2015.ma2015_sources(exposures, scales, ma2015_level)


def halved(images: Tensor) -> Tensor:
    if MEF_SSIM.backend(images) == backends.CPP:
        return Halve.apply(detach_if_no_grad(images))
    return halve(images)


def ma2015_qualities(sources: Sequence[Ma2015Level], fused: Tensor) -> Tensor:
    return mef_ma2015.ma2015_qualities(sources, fused, ma2015_quality, halved)


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
            fused = detach_if_no_grad(fused)
            return Factors.apply(fused, requires_grad(fused), *sources)[:2]
        except LaunchError:
            pass
    return mef_mefnet.mefnet_factors(sources, fused)


@torch.no_grad()
def color2018_sources(exposures: Tensor) -> Color2018Sources:
    if COLOR2018.has_kernels_for(exposures):
        try:
            return Color2018Sources(exposures, *_color2018_sources(exposures))
        except LaunchError:
            pass
    return mef_color2018.color2018_sources(exposures)


def color2018_score(sources: Color2018Sources, fused: Tensor) -> Tensor:
    floats = (sources.exposures, sources.mean, sources.variance, sources.luminance)
    if COLOR2018.has_kernels_for(*floats, fused):
        try:
            fused = detach_if_no_grad(fused)
            return ColorScore.apply(fused, requires_grad(fused), *sources)[0]
        except LaunchError:
            pass
    return mef_color2018.color2018_score(sources, fused)


STEPS = Steps(
    ma2015_sources=ma2015_sources,
    ma2015_qualities=ma2015_qualities,
    mefnet_sources=mefnet_sources,
    mefnet_factors=mefnet_factors,
    color2018_sources=color2018_sources,
    color2018_score=color2018_score,
)
"""The steps of MEF-SSIM that run on the kernels."""


def ma2015_without_maps(fused: Tensor, exposures: Tensor, scales: int) -> Tensor:
    """Return the mean quality of every scale, ``(B, scales)``, finest first.

    No gradient flows to the exposures.

    ``exposures`` ``(B, K, H, W)`` and ``fused`` ``(B, H, W)`` are grey, in [0, 1] and of one dtype,
    float32 or float64, on the CPU.
    """
    exposures, fused = exposures.detach(), detach_if_no_grad(fused)
    with_gradient = requires_grad(fused)
    qualities = []
    for scale in range(scales):
        if scale:
            exposures, fused = Halve.apply(exposures), Halve.apply(fused)
        quality, _ = Quality.apply(fused, with_gradient, WINDOW, SIGMA, exposures, None, None, None)
        qualities.append(quality)
    return torch.stack(qualities, dim=-1)


def mef_ssim(
    fused: Tensor, exposures: Tensor, variant: str = "ma2015", scales: int | None = None
) -> Tensor:
    """Compute :func:`fastmef.reference.mef_ssim.mef_ssim` in the fastest way available."""
    if variant == "ma2015":
        images = STEPS.score_input(exposures, variant, exposures.dim() == 4)
        image = STEPS.score_input(fused, variant, fused.dim() == 3).to(images.dtype)
        if MEF_SSIM.backend(images, image) == backends.CPP:
            levels = len(mef_ma2015.BETA) if scales is None else scales
            return mef_ma2015.ma2015_combine(ma2015_without_maps(image, images, levels))
    return mef_ssim_score(mef_ssim_sources(exposures, variant, scales, STEPS), fused, STEPS)
