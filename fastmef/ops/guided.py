"""guided_upsample_fuse: full-size fusion with logits of a smaller size.

Two kernels read the exposures in their dtype: one computes the small guide, one fuses. Between
them, plain PyTorch computes the coefficients of the linear functions at the small size. The
backward pass is that of the reference, because the operation is not meant for training. CUDA C++
handles up to eight exposures, Triton handles more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops import fusion
from fastmef.ops.common import cuda
from fastmef.ops.common.autograd import gradients
from fastmef.ops.common.cuda import MOST_EXPOSURES
from fastmef.ops.common.operation import (
    GPU_STORED,
    LaunchError,
    Operation,
    Support,
    triton_launcher,
)
from fastmef.ops.common.tensors import color_stack, fused_like, fused_stack, require
from fastmef.reference.color import GRAY_COEFFICIENTS

# The CUDA C++ kernels hold products of two positions in 32 bits.
LONGEST_ON_CUDA = 46340


def _cuda_covers(exposures: Tensor, *others: Tensor) -> bool:
    _, count, _, height, width = exposures.shape
    return count <= MOST_EXPOSURES and max(height, width) <= LONGEST_ON_CUDA


GUIDED_UPSAMPLE_FUSE = Operation(
    "guided_upsample_fuse",
    cuda=Support(GPU_STORED, _cuda_covers),
    triton=Support(GPU_STORED),
)

_guide_kernel = triton_launcher("guided.guide", "guide")
_fuse_kernel = triton_launcher("guided.fuse", "fuse")


def _gray(exposures: Tensor) -> tuple[float, ...]:
    """Return the weights of R, G and B in the mean luma in [0, 1] of the exposures."""
    highest = 1 if exposures.is_floating_point() else torch.iinfo(exposures.dtype).max
    return tuple(x / (highest * exposures.shape[1]) for x in GRAY_COEFFICIENTS)


def _new_guide(exposures: Tensor, rows: int, columns: int) -> Tensor:
    """Allocate the small guide ``(B, 1, rows, columns)``."""
    return exposures.new_empty((exposures.shape[0], 1, rows, columns), dtype=torch.float32)


def _require_guide(exposures: Tensor, rows: int, columns: int) -> None:
    """Refuse exposures that are not RGB, and sizes of the guide that do not fit them."""
    require(
        exposures.ndim == 5
        and exposures.shape[2] == 3
        and exposures.numel() > 0
        and 1 <= rows <= exposures.shape[3]
        and 1 <= columns <= exposures.shape[4],
        f"exposures {tuple(exposures.shape)} cannot have a guide of {rows} x {columns}",
    )


def _require_coefficients(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> None:
    """Refuse slopes and offsets that do not fit the exposures."""
    require(
        slopes.shape == offsets.shape
        and slopes.ndim == 4
        and slopes.shape[:2] == exposures.shape[:2]
        and slopes.dtype == offsets.dtype == torch.float32,
        f"slopes {tuple(slopes.shape)} do not fit exposures {tuple(exposures.shape)}",
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
        cuda.device_and_stream("guided_guide", exposures),
        tuple(exposures.shape),
        rows,
        columns,
        _gray(exposures),
        color_stack(exposures),
        guide.data_ptr(),
    )
    return guide


def _fuse_cuda(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> Tensor:
    _require_coefficients(slopes, offsets, exposures)
    fused = fused_like(exposures)
    slopes, offsets = slopes.contiguous(), offsets.contiguous()
    backends.CUDA_MODULE.guided_fuse(  # type: ignore[union-attr]
        cuda.device_and_stream("guided_fuse", exposures, slopes, offsets),
        tuple(exposures.shape),
        *slopes.shape[-2:],
        _gray(exposures),
        color_stack(exposures),
        slopes.data_ptr(),
        offsets.data_ptr(),
        fused_stack(fused),
    )
    return fused


def _fuse_triton(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> Tensor:
    _require_coefficients(slopes, offsets, exposures)
    fused = fused_like(exposures)
    _fuse_kernel(slopes.contiguous(), offsets.contiguous(), exposures, fused, _gray(exposures))
    return fused


_guide = GUIDED_UPSAMPLE_FUSE.register(
    "guided_guide(Tensor exposures, int rows, int columns) -> Tensor",
    _new_guide,
    cuda=_guide_cuda,
    triton=_guide_triton,
)
_fuse = GUIDED_UPSAMPLE_FUSE.register(
    "guided_fuse(Tensor slopes, Tensor offsets, Tensor exposures) -> Tensor",
    lambda slopes, offsets, exposures: fused_like(exposures),
    case=lambda slopes, offsets, exposures: ((exposures, slopes, offsets), {}),
    cuda=_fuse_cuda,
    triton=_fuse_triton,
)


def _run_kernels(logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
    """Return the fused image, computed by the two kernels."""
    guide = _guide(exposures, *logits.shape[-2:])
    coefficients = reference.guided.guided_coefficients(logits.float(), guide, radius, eps)
    return _fuse(*coefficients, exposures)


class GuidedUpsampleFuse(torch.autograd.Function):
    """Save the inputs and differentiate the reference in the backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
        ctx.save_for_backward(logits, exposures)
        ctx.options = radius, eps
        return _run_kernels(logits, exposures, radius, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fused: Tensor) -> Any:
        radius, eps = ctx.options
        compute = partial(reference.guided.guided_upsample_fuse, radius=radius, eps=eps)
        needed = ctx.needs_input_grad[:2]
        return *gradients(compute, ctx.saved_tensors, needed, (grad_fused,)), None, None


def guided_upsample_fuse(logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
    """Return the fused image, in the dtype and layout of the exposures."""
    if GUIDED_UPSAMPLE_FUSE.has_kernels_for(exposures, logits):
        try:
            if exposures.is_floating_point():
                return GuidedUpsampleFuse.apply(logits, exposures, radius, eps)
            return _run_kernels(logits, exposures, radius, eps)
        except LaunchError:
            pass
    # torch.softmax() is not used: it rounds differently at the ends of its threads' blocks.
    enlarged = reference.guided.guided_logits(logits, exposures, radius, eps)
    return fusion.softmax_fuse(enlarged, exposures, False, 1.0, None)[0]
