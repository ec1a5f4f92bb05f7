"""MEF-SSIM of one fused image, for which the maps of the exposures are computed but never stored.

One sweep a scale computes the maps row by row, the score and, if it is wanted, its gradient w.r.t.
the fused image. It pays only when nothing is scored twice; for many results of one scene the maps
are kept, as in :mod:`fastmef.ops.mef_ssim`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.ops.common.tensors import gradient_like, require
from fastmef.ops.mef_ssim import (
    MEF_SSIM,
    STEPS,
    addresses,
    mef_shape,
    plane_shape,
    require_fit,
    scaled,
)
from fastmef.reference import mef_ma2015
from fastmef.reference.mef_ssim import mef_ssim_score, mef_ssim_sources

WHITE = 255


def _once_like(exposures: Tensor, fused: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    return fused.new_empty(fused.shape[:1]), gradient_like(fused, with_gradient)


def _once_cpu(exposures: Tensor, fused: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    exposures, fused = exposures.contiguous(), fused.contiguous()
    require_fit(exposures, {plane_shape(exposures): [fused]})
    quality, gradient = _once_like(exposures, fused, with_gradient)
    backends.CPU.ma2015_once(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        mef_shape(exposures, mef_ma2015.SIGMA),
        exposures.data_ptr(),
        WHITE,
        (*addresses(fused, quality), 0, *addresses(gradient), 0),
        mef_ma2015.C / WHITE**2,
    )
    return quality, gradient


def _halve_like(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return images.new_empty((*images.shape[:-2], (height + 1) // 2, (width + 1) // 2))


def _halve_cpu(images: Tensor) -> Tensor:
    images = images.contiguous()
    require(
        images.ndim >= 2 and images.numel() > 0 and images.dtype in (torch.float32, torch.float64),
        f"half of {images.dtype} {tuple(images.shape)} is not defined",
    )
    out = _halve_like(images)
    height, width = images.shape[-2:]
    backends.CPU.halve(  # type: ignore[union-attr]
        images.dtype == torch.float64,
        (images.numel() // (height * width), height, width),
        *addresses(images, out),
        torch.get_num_threads(),
    )
    return out


_once = MEF_SSIM.register(
    "ma2015_once(Tensor exposures, Tensor fused, bool with_gradient) -> (Tensor, Tensor)",
    _once_like,
    cpp=_once_cpu,
)
_halve = MEF_SSIM.register("halve(Tensor images) -> Tensor", _halve_like, cpp=_halve_cpu)


class Once(torch.autograd.Function):
    """``(B,)`` of one scale of ma2015; exposures and fused image in [0, 1]."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, exposures: Tensor) -> Tensor:
        quality, gradient = _once(exposures, fused, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return quality

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_quality: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return scaled(grad_quality, gradient), None


class Halve(torch.autograd.Function):
    """Half the size, like :func:`fastmef.reference.filters.halve`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.size = images.shape[-2:]
        return _halve(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        height, width = ctx.size
        # A repeated last row or column counts twice.
        rows, columns = (
            torch.full((n,), 0.5, dtype=grad_output.dtype, device=grad_output.device)
            for n in grad_output.shape[-2:]
        )
        if height % 2:
            rows[-1] = 1
        if width % 2:
            columns[-1] = 1
        shares = grad_output * rows[:, None] * columns
        doubled = shares.repeat_interleave(2, -2).repeat_interleave(2, -1)
        return doubled[..., :height, :width]


def ma2015_once(exposures: Tensor, fused: Tensor, scales: int = 3) -> Tensor:
    """Mean quality of every scale, ``(B, scales)``, finest first; no gradient to the exposures.

    ``exposures`` ``(B, K, H, W)`` and ``fused`` ``(B, H, W)`` are grey, in [0, 1] and of one dtype,
    float32 or float64, on the CPU.
    """
    exposures, fused = exposures.detach(), detach_if_no_grad(fused)
    qualities = []
    for scale in range(scales):
        if scale:
            exposures, fused = Halve.apply(exposures), Halve.apply(fused)
        qualities.append(Once.apply(fused, exposures))
    return torch.stack(qualities, dim=-1)


def mef_ssim_once(
    exposures: Tensor, fused: Tensor, variant: str = "ma2015", scales: int | None = None
) -> Tensor:
    """:func:`fastmef.reference.mef_ssim.mef_ssim` by the fastest way there is."""
    if variant == "ma2015":
        images = STEPS.score_input(exposures, variant, exposures.dim() == 4)
        image = STEPS.score_input(fused, variant, fused.dim() == 3).to(images.dtype)
        if MEF_SSIM.backend(images, image) == backends.CPP:
            levels = len(mef_ma2015.BETA) if scales is None else scales
            return mef_ma2015.ma2015_combine(ma2015_once(images, image, levels))
    return mef_ssim_score(mef_ssim_sources(exposures, variant, scales, STEPS), fused, STEPS)
