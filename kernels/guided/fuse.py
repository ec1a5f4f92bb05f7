r"""Fuse at full size with logits that are linear in the guide, for guided_upsample_fuse.

.. math::
    g = \tfrac1K \sum_k Y(I_k), \quad x_k = a_k g + b_k, \quad
    F = \sum_k \mathrm{softmax}_k(x)\, I_k

where a and b have a smaller size and are enlarged bilinearly (pixel centres, repeated edges). A
program handles all rows between two rows of a and b, which it reads and interpolates along x once.
Positions are exact: they are integers, divided once. The small images may have any size up to that
of the exposures. The kernel of :mod:`.guide` averages g over the pixels of each small one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from ..common.tiles import stored
from .luma import load_colours, luma_constants

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


def tile_size(count: int) -> tuple[int, int]:
    """Return the number of exposures padded to a power of two, and the columns of a program."""
    lines = 1 << (count - 1).bit_length()
    return lines, max(32, min(256, 1024 // lines))


@triton.jit
def _between(image, left, right, fraction, present):
    """Return the values of a small row at full-size columns."""
    a = tl.load(image + left, mask=present, other=0)
    b = tl.load(image + right, mask=present, other=0)
    return a + fraction * (b - a)


@triton.jit
def _first_row(interval, height, rows):
    """Return the first full-size row whose centre is at or below that of a small row."""
    start = (height * (2 * interval + 1) - rows + 2 * rows - 1) // (2 * rows)
    return tl.where(interval < 0, 0, tl.where(interval < rows, start, height))


@compiled_for(
    Layout(ones=("column_stride", "fused_column")),
    Layout(ones=("channel_stride", "fused_channel")),
    Layout(),
)
def fuse_kernel(
    slopes,
    offsets,
    exposures,
    fused,
    height,
    width,
    rows,
    columns,
    batch_stride,
    layer_stride,
    channel_stride,
    row_stride,
    column_stride,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fuse COLUMNS columns of all full-size rows between two small rows."""
    blocks = (width - 1) // COLUMNS + 1
    strip = (tl.program_id(0) // blocks).to(tl.int64)
    batch = strip // (rows + 1)
    interval = strip % (rows + 1) - 1
    x = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    line = tl.arange(0, LINES).to(tl.int64)[:, None]
    inside = x < width
    present = inside & (line < K)

    position = (2 * x + 1) * columns + width
    left = position // (2 * width) - 1
    fraction = (position - (left + 1) * 2 * width).to(tl.float32) / (2 * width).to(tl.float32)
    right = tl.minimum(left + 1, columns - 1)
    left = tl.maximum(left, 0)
    plane = (batch * K + line) * rows
    upper = (plane + tl.maximum(interval, 0)) * columns
    lower = (plane + tl.minimum(interval + 1, rows - 1)) * columns
    slope = _between(slopes + upper, left, right, fraction, present)
    slope_change = _between(slopes + lower, left, right, fraction, present) - slope
    offset = _between(offsets + upper, left, right, fraction, present)
    offset_change = _between(offsets + lower, left, right, fraction, present) - offset

    exposures += batch * batch_stride + line * layer_stride + x * column_stride
    fused += batch * fused_batch + x * fused_column
    dtype: tl.constexpr = fused.dtype.element_ty
    for y in range(_first_row(interval, height, rows), _first_row(interval + 1, height, rows)):
        # In the interpreter a loop variable is a Python integer.
        y = tl.cast(y, tl.int64)
        red, green, blue = load_colours(exposures + y * row_stride, channel_stride, present)
        guide = tl.sum(RED * red + GREEN * green + BLUE * blue, axis=0)[None, :]
        down = (2 * y + 1) * rows - height - 2 * height * interval
        t = down.to(tl.float32) / (2 * height).to(tl.float32)
        logits = (slope + t * slope_change) * guide + (offset + t * offset_change)
        logits = tl.where(line < K, logits, float("-inf"))
        exponentials = tl.exp(logits - tl.max(logits, axis=0)[None, :])
        weight = exponentials * (1.0 / tl.sum(exponentials, axis=0))[None, :]
        to = fused + y * fused_row
        tl.store(to, stored(tl.sum(weight * red, axis=0)[None, :], dtype), mask=inside)
        to += fused_channel
        tl.store(to, stored(tl.sum(weight * green, axis=0)[None, :], dtype), mask=inside)
        to += fused_channel
        tl.store(to, stored(tl.sum(weight * blue, axis=0)[None, :], dtype), mask=inside)


def fuse(
    slopes: Tensor, offsets: Tensor, exposures: Tensor, fused: Tensor, gray: tuple[float, ...]
) -> None:
    """Fill ``fused``. ``slopes`` and ``offsets`` ``(B, K, h, w)`` are contiguous."""
    batch, count, _, height, width = exposures.shape
    rows, columns = slopes.shape[-2:]
    lines, block = tile_size(count)
    launch(
        fuse_kernel,
        batch * (rows + 1) * cdiv(width, block),
        exposures.device,
        slopes,
        offsets,
        exposures,
        fused,
        height,
        width,
        rows,
        columns,
        *exposures.stride(),
        *fused.stride(),
        K=count,
        **luma_constants(gray),
        LINES=lines,
        COLUMNS=block,
        num_warps=WARPS,
    )
