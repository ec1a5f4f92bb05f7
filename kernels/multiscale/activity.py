r"""The activity of a band, :math:`a_k = s_k (v_k + \mathrm{floor})^2`, v the variance of luma.

A program marches down a strip of one exposure and holds the rows of a window in registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import Layout, compiled_for, launch
from ..common.windows import COLUMNS, locate_strip, row_at, strip_programs, strip_rows, zero_rows

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


@triton.jit
def _gray(
    pointer,
    row,
    column,
    row_stride,
    column_stride,
    channel_stride,
    C: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
):
    """Return the luma of three channels, or the mean of another number, in the exposure's range."""
    at = row_at(pointer, row, column, row_stride, column_stride)
    total = tl.load(at).to(tl.float32)
    if C == 3:
        total = RED * total
        at += channel_stride
        total += GREEN * tl.load(at).to(tl.float32)
        # The pointer advances by one stride at a time: 2 * channel_stride may not fit 32 bits.
        at += channel_stride
        total += BLUE * tl.load(at).to(tl.float32)
        return total
    for _ in tl.static_range(C - 1):
        at += channel_stride
        total += tl.load(at).to(tl.float32)
    return total / C


@compiled_for(Layout(ones=("fine_column",)), Layout(ones=("fine_channel",)), Layout())
def activity_kernel(
    fine,
    shares,
    activity,
    height,
    width,
    rows,
    scale,
    floor,
    fine_batch,
    fine_layer,
    fine_channel,
    fine_row,
    fine_column,
    K: tl.constexpr,
    C: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    RADIUS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the activity of one exposure in a strip of pixels."""
    size: tl.constexpr = 2 * RADIUS + 1
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    fine += (plane // K) * fine_batch + (plane % K) * fine_layer
    share = 1.0
    if shares is not None:
        share = tl.load(shares + plane)
    to = activity + plane * height * width + column
    # Rows of (mean, sum of squared deviations), computed from differences to the pixel in the
    # middle, so that rounding errors are relative to the variance.
    ring = zero_rows(2 * size, COLUMNS)
    for row in range(first - RADIUS, end + RADIUS):
        y = tl.minimum(tl.maximum(row, 0), height - 1)
        x = tl.minimum(column, width - 1)
        middle = _gray(fine, y, x, fine_row, fine_column, fine_channel, C, RED, GREEN, BLUE)
        sums = tl.zeros((COLUMNS,), tl.float32)
        squares = tl.zeros((COLUMNS,), tl.float32)
        for j in tl.static_range(size):
            if j != RADIUS:
                x = tl.minimum(tl.maximum(column + (j - RADIUS), 0), width - 1)
                gray = _gray(fine, y, x, fine_row, fine_column, fine_channel, C, RED, GREEN, BLUE)
                d = gray - middle
                sums += d
                squares += d * d
        pushed = ()
        for k in tl.static_range(size - 1):
            pushed = pushed + (ring[k + 1],)
        pushed = pushed + (middle + sums / size,)
        for k in tl.static_range(size - 1):
            pushed = pushed + (ring[size + k + 1],)
        ring = pushed + (squares - sums * sums / size,)
        done = row - RADIUS
        if done >= first:
            sums = tl.zeros((COLUMNS,), tl.float32)
            squares = tl.zeros((COLUMNS,), tl.float32)
            within = tl.zeros((COLUMNS,), tl.float32)
            for j in tl.static_range(size):
                d = ring[j] - ring[RADIUS]
                sums += d
                squares += d * d
                within += ring[size + j]
            variance = (within / size + (squares - sums * sums / size)) / size
            variance *= scale * scale
            # A comparison with NaN is false, so NaN is kept.
            deviation = tl.where(variance < 0, 0.0, variance) + floor
            value = share * (deviation * deviation)
            tl.store(to + tl.cast(done, tl.int64) * width, value, mask=inside)


def activity(
    fine: Tensor,
    shares: Tensor | None,
    out: Tensor,
    scale: float,
    floor: float,
    radius: int,
    luma: tuple[float, float, float],
) -> None:
    """Fill ``out``, contiguous ``(B, K, H, W)`` float32; ``scale`` maps values to [0, 1]."""
    batch, count, channels, height, width = fine.shape
    rows = strip_rows(batch * count, height, width)
    launch(
        activity_kernel,
        strip_programs(batch * count, height, width, rows),
        fine.device,
        fine,
        shares,
        out,
        height,
        width,
        rows,
        scale,
        floor,
        *fine.stride(),
        K=count,
        C=channels,
        RED=luma[0],
        GREEN=luma[1],
        BLUE=luma[2],
        RADIUS=radius,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )
