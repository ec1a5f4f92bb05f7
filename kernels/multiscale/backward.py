"""The backward pass of the expansion in :mod:`.blend`, which gathers and needs no atomics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from ..common.tiles import locate
from ..common.windows import row_at

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


@triton.jit
def _expansion_weight(step: tl.constexpr, coarse, coarse_size, fine_position, size):
    """Return the weight of a coarse position in the ``step``-th of its four fine positions."""
    weight = 0.25 if step == 0 or step == 3 else 0.75
    # A border pixel is repeated beyond the border, which gives it the whole weight there.
    repeated = ((coarse == 0) & (fine_position == 0)) | (
        (coarse == coarse_size - 1) & (fine_position == 2 * coarse_size - 1)
    )
    there = (fine_position >= 0) & (fine_position < size)
    return tl.where(there, tl.where(repeated, 1.0, weight), 0.0)


@compiled_for(Layout(ones=("grad_column",)), Layout())
def blend_backward_kernel(
    grad,
    slope,  # contiguous, or None
    grad_coarse,
    height,
    width,
    grad_batch,
    grad_channel,
    grad_row,
    grad_column,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute COLUMNS values of a row of the coarse gradient."""
    rows = (height + 1) // 2
    columns = (width + 1) // 2
    plane, y, first = locate(tl.program_id(0), columns, rows, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < columns
    grad += (plane // C) * grad_batch + (plane % C) * grad_channel
    total = tl.zeros((COLUMNS,), tl.float32)
    for i in tl.static_range(4):
        row = 2 * y - 1 + i
        line = tl.zeros((COLUMNS,), tl.float32)
        clamped_row = tl.minimum(tl.maximum(row, 0), height - 1)
        for j in tl.static_range(4):
            column = 2 * x - 1 + j
            clamped = tl.minimum(tl.maximum(column, 0), width - 1)
            at = row_at(grad, clamped_row, clamped, grad_row, grad_column)
            value = tl.load(at, mask=inside, other=0).to(tl.float32)
            if slope is not None:
                at = slope + (plane * height + clamped_row) * width + clamped
                value *= tl.load(at, mask=inside, other=0)
            weight = _expansion_weight(j, x, columns, column, width)
            line += tl.where(weight > 0, weight * value, 0.0)
        weight = _expansion_weight(i, y, rows, row, height)
        total += tl.where(weight > 0, weight * line, 0.0)
    tl.store(grad_coarse + (plane * rows + y) * columns + x, total, mask=inside)


def blend_backward(grad: Tensor, slope: Tensor | None, grad_coarse: Tensor) -> None:
    """Fill ``grad_coarse``, contiguous."""
    batch, channels, height, width = grad.shape
    rows, columns = grad_coarse.shape[-2:]
    launch(
        blend_backward_kernel,
        batch * channels * rows * cdiv(columns, 256),
        grad.device,
        grad,
        slope,
        grad_coarse,
        height,
        width,
        *grad.stride(),
        C=channels,
        COLUMNS=256,
        num_warps=WARPS,
    )
