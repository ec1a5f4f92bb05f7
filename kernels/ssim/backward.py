"""Second pass of the gradients of ssim: filter the derivative maps of :mod:`.forward`."""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.tiles import stored
from ..common.windows import (
    filter_row,
    locate_strip,
    present_width,
    push,
    row_at,
    zero_rows,
)


@triton.jit
def ssim_adjoint_kernel(
    a,
    b,
    shifts,
    by_power,
    by_cross,
    by_mean_a,  # None where that gradient is not wanted
    by_mean_b,
    gradient_a,
    gradient_b,
    height,
    width,
    map_height,
    map_width,
    planes,
    rows,
    a_plane,
    a_row,
    a_column,
    b_plane,
    b_row,
    b_column,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    # How far below and right of its pixel a window may begin.
    down: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    right: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    maps: tl.constexpr = 3 if by_mean_a is None or by_mean_b is None else 4
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    a += plane * a_plane
    b += plane * b_plane
    shift_a = tl.load(shifts + plane)
    shift_b = tl.load(shifts + planes + plane)
    from_map = plane * map_height * map_width
    to = plane * height * width + column
    x = column + (right - len(TAPS_X) + 1)
    ring = zero_rows(maps * size, COLUMNS)
    for row in range(first - size + 1, end):
        y = row + down
        present = present_width(y, map_height, map_width, True)
        offset = from_map + tl.cast(y, tl.int64) * map_width + x
        filtered = (
            filter_row(by_power + offset, x, present, TAPS_X),
            filter_row(by_cross + offset, x, present, TAPS_X),
        )
        if by_mean_a is not None:
            filtered = filtered + (filter_row(by_mean_a + offset, x, present, TAPS_X),)
        if by_mean_b is not None:
            filtered = filtered + (filter_row(by_mean_b + offset, x, present, TAPS_X),)
        ring = push(ring, filtered, TAPS_Y)
        if row >= first:
            at_a = row_at(a, row, column, a_row, a_column)
            at_b = row_at(b, row, column, b_row, b_column)
            value_a = tl.load(at_a, mask=inside, other=0).to(tl.float32) - shift_a
            value_b = tl.load(at_b, mask=inside, other=0).to(tl.float32) - shift_b
            here = to + tl.cast(row, tl.int64) * width
            if by_mean_a is not None:
                result = ring[2 * size] + 2 * value_a * ring[0] + value_b * ring[size]
                result = stored(result, gradient_a.dtype.element_ty)
                tl.store(gradient_a + here, result, mask=inside)
            if by_mean_b is not None:
                result = ring[(maps - 1) * size] + 2 * value_b * ring[0] + value_a * ring[size]
                result = stored(result, gradient_b.dtype.element_ty)
                tl.store(gradient_b + here, result, mask=inside)
