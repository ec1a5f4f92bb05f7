"""Resample along both axes with gradients that are bit-identical in every run.

On a GPU the backward passes of ``F.interpolate``, adaptive pooling and ``index_select`` add with
atomics in any order. This module gathers the gradient instead: resampling is linear along either
axis, so the gradient is a product with two transposed matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Resampling = Callable[[Tensor, tuple[int, int]], Tensor]


def gathers_gradient(planes: Tensor) -> bool:
    """Return whether autograd records a gradient w.r.t. planes on a GPU, which must be gathered."""
    return planes.is_cuda and torch.is_grad_enabled() and planes.requires_grad


def bilinear(planes: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    """Resample ``(N, C, h, w)`` bilinearly to ``size``, with ``align_corners=False``."""

    def function(images: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(images, size, mode="bilinear", antialias=antialias)

    return resample(function, planes, size)


def resample(function: Resampling, planes: Tensor, size: Sequence[int]) -> Tensor:
    """Apply ``function``, which resamples ``(N, C, h, w)`` to ``size`` linearly on each axis."""
    if gathers_gradient(planes):
        return _Resample.apply(planes, function, tuple(size))
    return function(planes, tuple(size))  # type: ignore[arg-type]


class _Resample(torch.autograd.Function):
    """Resample; the backward pass multiplies with the transposed matrices of both axes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(planes: Tensor, function: Resampling, size: tuple[int, int]) -> Tensor:
        return function(planes, size)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        planes, ctx.function, _ = inputs
        ctx.size = planes.shape[-2:]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        wide = grad_output.to(torch.promote_types(grad_output.dtype, torch.float32))
        rows, columns = (
            # The matrix of resampling along an axis is the resampled unit matrix.
            ctx.function(torch.eye(n, dtype=wide.dtype, device=wide.device)[None, None], (size, n))
            for n, size in zip(ctx.size, wide.shape[-2:], strict=True)
        )
        grad_planes = rows[0, 0].T @ wide @ columns[0, 0]
        return grad_planes.to(grad_output.dtype), None, None
