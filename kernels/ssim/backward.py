"""The second pass of the gradients of ssim: filter the derivative maps of :mod:`.forward`."""

from __future__ import annotations

import triton.language as tl

from ..common.launching import Layout, compiled_for
from ..common.maps import filter_maps, map_area, map_offset
from ..common.tiles import stored
from ..common.windows import (
    locate_strip,
    push,
    row_at,
    zero_rows,
)


@compiled_for(
    Layout(ones=("a_column", "b_column"), multiples=("maps",)), Layout(multiples=("maps",))
)
def ssim_backward_kernel(
    a,
    b,
    shifts,
    maps,
    gradient_a,  # or None
    gradient_b,  # or None
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
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the wanted gradients for a strip of pixels."""
    size: tl.constexpr = len(TAPS_Y)
    # A window may begin this far below and right of a pixel that it covers.
    down: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    right: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    count: tl.constexpr = 3 if gradient_a is None or gradient_b is None else 4
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    a += plane * a_plane
    b += plane * b_plane
    shift_a = tl.load(shifts + plane)
    shift_b = tl.load(shifts + planes + plane)
    # Lanes beyond the image repeat its last column and are not stored.
    x = tl.minimum(column, width - 1) + (right - len(TAPS_X) + 1)
    y = first - size + 1 + down
    first_tap = map_offset(plane, y, x, map_height, map_width, MARGIN_Y, MARGIN_X)
    area = map_area(planes, map_height, map_width, MARGIN_Y, MARGIN_X)
    ring = zero_rows(count * size, COLUMNS)
    start = first - (size - 1)
    at_a = row_at(a, start, column, a_row, a_column)
    at_b = row_at(b, start, column, b_row, b_column)
    here = plane * height * width + tl.cast(start, tl.int64) * width + column
    a_step = tl.cast(a_row, tl.int64)
    b_step = tl.cast(b_row, tl.int64)
    for row in range(start, end):
        filtered = filter_maps(maps, first_tap, area, count, TAPS_X)
        first_tap += map_width + 2 * MARGIN_X
        ring = push(ring, filtered, TAPS_Y)
        if row >= first:
            value_a = tl.load(at_a, mask=inside, other=0).to(tl.float32) - shift_a
            value_b = tl.load(at_b, mask=inside, other=0).to(tl.float32) - shift_b
            if gradient_a is not None:
                result = ring[2 * size] + 2 * value_a * ring[0] + value_b * ring[size]
                result = stored(result, gradient_a.dtype.element_ty)
                tl.store(gradient_a + here, result, mask=inside)
            if gradient_b is not None:
                result = ring[(count - 1) * size] + 2 * value_b * ring[0] + value_a * ring[size]
                result = stored(result, gradient_b.dtype.element_ty)
                tl.store(gradient_b + here, result, mask=inside)
        at_a += a_step
        at_b += b_step
        here += width
