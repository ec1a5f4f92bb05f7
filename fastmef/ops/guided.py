"""guided_upsample_fuse: full-size fusion by logits of a smaller size.

Two kernels read the exposures as they are stored: one makes the small guide, one fuses. The lines
between them are made at the small size by plain PyTorch. The backward pass is that of the
reference: it is not meant for training. CUDA C++ serves up to eight exposures, Triton the rest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops import _cuda, fusion
from fastmef.ops._arrays import color_stack, fused_like, fused_stack, require
from fastmef.ops._by_reference import gradients
from fastmef.ops._library import register, triton_launcher
from fastmef.reference.color import GRAY_COEFFICIENTS

# The CUDA C++ kernels hold positions in 32 bits.
_LONGEST_BY_CUDA = 46340

_guide_kernel = triton_launcher("guided.guide", "guide")
_fuse_kernel = triton_launcher("guided.fuse", "fuse")


def _gray(exposures: Tensor) -> tuple[float, ...]:
    """Coefficients of the mean luma in [0, 1]."""
    highest = 1 if exposures.is_floating_point() else torch.iinfo(exposures.dtype).max
    return tuple(x / (highest * exposures.shape[1]) for x in GRAY_COEFFICIENTS)


def _new_guide(exposures: Tensor, rows: int, columns: int) -> Tensor:
    return exposures.new_empty((exposures.shape[0], 1, rows, columns), dtype=torch.float32)


def _require_guide(exposures: Tensor, rows: int, columns: int) -> None:
    require(
        exposures.ndim == 5
        and exposures.shape[2] == 3
        and exposures.numel() > 0
        and 1 <= rows <= exposures.shape[3]
        and 1 <= columns <= exposures.shape[4],
        f"no guide of {rows} x {columns} for exposures {tuple(exposures.shape)}",
    )


def _require_lines(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> None:
    require(
        slopes.shape == offsets.shape
        and slopes.ndim == 4
        and slopes.shape[:2] == exposures.shape[:2]
        and slopes.dtype == offsets.dtype == torch.float32,
        f"lines {tuple(slopes.shape)} do not fit exposures {tuple(exposures.shape)}",
    )
    _require_guide(exposures, *slopes.shape[2:])


def _guide_triton(exposures: Tensor, rows: int, columns: int) -> Tensor:
    _require_guide(exposures, rows, columns)
    guide = _new_guide(exposures, rows, columns)
    _guide_kernel(exposures, guide, _gray(exposures))
    return guide


def _guide_cuda(exposures: Tensor, rows: int, columns: int) -> Tensor:
    _require_guide(exposures, rows, columns)
    guide = _new_guide(exposures, rows, columns)
    backends.CUDA_MODULE.guided_guide(  # type: ignore[union-attr]
        _cuda.place("guided_guide", exposures),
        tuple(exposures.shape),
        rows,
        columns,
        _gray(exposures),
        color_stack(exposures),
        guide.data_ptr(),
    )
    return guide


def _fuse_cuda(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> Tensor:
    _require_lines(slopes, offsets, exposures)
    fused = fused_like(exposures)
    slopes, offsets = slopes.contiguous(), offsets.contiguous()
    backends.CUDA_MODULE.guided_fuse(  # type: ignore[union-attr]
        _cuda.place("guided_fuse", exposures, slopes, offsets),
        tuple(exposures.shape),
        *slopes.shape[-2:],
        _gray(exposures),
        color_stack(exposures),
        slopes.data_ptr(),
        offsets.data_ptr(),
        fused_stack(fused),
    )
    return fused


def _backend(exposures: Tensor, *others: Tensor) -> str:
    _, count, _, height, width = exposures.shape
    covered = count <= _cuda.MOST_EXPOSURES and max(height, width) <= _LONGEST_BY_CUDA
    return backends.choose("guided_upsample_fuse", exposures, *others, cuda=covered)


def _fits(exposures: Tensor) -> bool:
    usable = _backend(exposures) == backends.CUDA
    return usable and _cuda.has_kernels(exposures.device.index)


def _fuse_triton(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> Tensor:
    _require_lines(slopes, offsets, exposures)
    fused = fused_like(exposures)
    _fuse_kernel(slopes.contiguous(), offsets.contiguous(), exposures, fused, _gray(exposures))
    return fused


_guide = register(
    "guided_guide(Tensor exposures, int rows, int columns) -> Tensor",
    _new_guide,
    triton=_guide_triton,
    cuda=_guide_cuda,
    cuda_fits=lambda exposures, rows, columns: _fits(exposures),
)
_fuse = register(
    "guided_fuse(Tensor slopes, Tensor offsets, Tensor exposures) -> Tensor",
    lambda slopes, offsets, exposures: fused_like(exposures),
    triton=_fuse_triton,
    cuda=_fuse_cuda,
    cuda_fits=lambda slopes, offsets, exposures: _fits(exposures),
)


def _fast(logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
    guide = _guide(exposures, *logits.shape[-2:])
    lines = reference.guided.guided_coefficients(logits.float(), guide, radius, eps)
    return _fuse(*lines, exposures)


class GuidedUpsampleFuse(torch.autograd.Function):
    """Saves the inputs; the backward pass computes the reference."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
        ctx.save_for_backward(logits, exposures)
        ctx.options = radius, eps
        return _fast(logits, exposures, radius, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        radius, eps = ctx.options
        compute = partial(reference.guided.guided_upsample_fuse, radius=radius, eps=eps)
        needed = ctx.needs_input_grad[:2]
        return *gradients(compute, ctx.saved_tensors, needed, (upstream,)), None, None


def guided_upsample_fuse(logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
    """The fused image, like the exposures."""
    if _backend(exposures, logits) == backends.REFERENCE:
        # Not torch.softmax(), which rounds differently where the blocks of its threads end.
        enlarged = reference.guided.guided_logits(logits, exposures, radius, eps)
        return fusion.softmax_fuse(enlarged, exposures, False, 1.0, None)[0]
    if exposures.is_floating_point():
        return GuidedUpsampleFuse.apply(logits, exposures, radius, eps)
    return _fast(logits, exposures, radius, eps)
