"""Compute the next level of a Gaussian pyramid: (1 3 3 1)/8 on each axis, every second sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from ..common.tiles import locate, stored
from ..common.windows import row_at

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


@compiled_for(Layout(ones=("fine_column",)), Layout(ones=("fine_channel",)), Layout())
def reduce_kernel(
    fine,
    coarse,
    height,
    width,
    scale,
    fine_batch,
    fine_layer,
    fine_channel,
    fine_row,
    fine_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute COLUMNS pixels of a row of the next level."""
    rows = (height + 1) // 2
    columns = (width + 1) // 2
    plane, y, first = locate(tl.program_id(0), columns, rows, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < columns
    fine += (plane // (K * C)) * fine_batch
    fine += (plane // C % K) * fine_layer + (plane % C) * fine_channel
    total = tl.zeros((COLUMNS,), tl.float32)
    for i in tl.static_range(4):
        row = tl.minimum(tl.maximum(2 * y - 1 + i, 0), height - 1)
        line = tl.zeros((COLUMNS,), tl.float32)
        for j in tl.static_range(4):
            column = tl.minimum(tl.maximum(2 * x - 1 + j, 0), width - 1)
            at = row_at(fine, row, column, fine_row, fine_column)
            value = tl.load(at, mask=inside, other=0).to(tl.float32)
            line += value if j == 0 or j == 3 else 3 * value
        total += line if i == 0 or i == 3 else 3 * line
    # Sums of integers are exact, and so is their product with a power of two.
    to = coarse + (plane * rows + y) * columns + x
    tl.store(to, stored(total * scale, coarse.dtype.element_ty), mask=inside)


def reduce(fine: Tensor, coarse: Tensor, scale: float) -> None:
    """Fill ``coarse``, contiguous, with ``scale`` times the means of the windows."""
    batch, count, channels, height, width = fine.shape
    rows, columns = coarse.shape[-2:]
    launch(
        reduce_kernel,
        batch * count * channels * rows * cdiv(columns, 256),
        fine.device,
        fine,
        coarse,
        height,
        width,
        scale / 64,
        *fine.stride(),
        K=count,
        C=channels,
        COLUMNS=256,
        num_warps=WARPS,
    )
