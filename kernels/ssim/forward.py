r"""Windowed SSIM of two images, its mean, and the gradients w.r.t. both.

.. math::
    \mathrm{SSIM} = l\,s, \quad l = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}, \quad
    s = \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2}

Four filtered maps are enough, a, b, ab and a² + b², because the formula needs only the sum of the
variances. For the same reason four derivative maps suffice for both gradients, and three for one:

.. math::
    \partial L / \partial a = w * d_a + 2 a\,(w * d_s) + b\,(w * d_c)

with :math:`d_a, d_s, d_c` the derivatives of L w.r.t. the windows' mean of a, the sum of the second
moments and the mean of ab. The first pass computes SSIM or its sum and, if a gradient is wanted, d;
the second filters d. A constant of the plane is subtracted from each image.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.launching import Layout, compiled_for
from ..common.maps import clear_margins, map_area, map_offset, store_maps
from ..common.similarity import similarity
from ..common.tiles import stored
from ..common.windows import (
    load_tap,
    locate_strip,
    plane_constant,
    present_width,
    push,
    row_at,
    zero_rows,
)


@triton.jit
def pair_rows(
    a,
    b,
    shift_a,
    shift_b,
    column,
    width,
    a_column,
    b_column,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    EACH: tl.constexpr,
):
    """Load one row of (a, b, a² + b², ab), filtered along the row.

    At EACH neighbouring columns, which share what they load.
    """
    last: tl.constexpr = len(TAPS) - 1
    middle: tl.constexpr = len(TAPS) // 2
    x = ()
    y = ()
    squares = ()
    products = ()
    for j in tl.static_range(len(TAPS) + EACH - 1):
        # Only the first of EACH columns is sure to exist.
        one = load_tap(a, j, column, width, a_column, PADDED or j > last) - shift_a
        other = load_tap(b, j, column, width, b_column, PADDED or j > last) - shift_b
        x = x + (one,)
        y = y + (other,)
        squares = squares + (one * one + other * other,)
        products = products + (one * other,)
    rows = ()
    for c in tl.static_range(EACH):
        mean_a = TAPS[middle] * x[c + middle]
        mean_b = TAPS[middle] * y[c + middle]
        second_moments = TAPS[middle] * squares[c + middle]
        cross = TAPS[middle] * products[c + middle]
        # The taps are symmetric, so two pixels have the same tap.
        for j in tl.static_range(middle):
            mean_a += TAPS[j] * (x[c + j] + x[c + last - j])
            mean_b += TAPS[j] * (y[c + j] + y[c + last - j])
            second_moments += TAPS[j] * (squares[c + j] + squares[c + last - j])
            cross += TAPS[j] * (products[c + j] + products[c + last - j])
        rows = rows + (mean_a, mean_b, second_moments, cross)
    return rows


@compiled_for(
    Layout(ones=("a_column", "b_column"), multiples=("maps",)), Layout(multiples=("maps",))
)
def ssim_kernel(
    a,
    b,
    grad_output,  # dL/dSSIM at every window; if it is None, `scale` at all windows
    values,  # SSIM, or None
    sums,  # the sum of SSIM over each program's strip, or None
    maps,  # d_s, d_c, then d_a and d_b if wanted; or None
    shifts,  # the constants of the planes of a, then of b; or None
    height,
    width,
    map_height,
    map_width,
    planes,
    rows,
    c1,
    c2,
    scale,
    a_plane,
    a_row,
    a_column,
    b_plane,
    b_row,
    b_column,
    grad_output_plane,
    grad_output_row,
    grad_output_column,
    LUMINANCE: tl.constexpr,
    FOR_A: tl.constexpr,
    FOR_B: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
    EACH: tl.constexpr,
):
    """Compute SSIM in a strip of windows: the map, its sum or the derivative maps."""
    size: tl.constexpr = len(TAPS_Y)
    top: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    left: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    program = tl.program_id(0)
    plane, first, end, column = locate_strip(program, map_height, map_width, rows, COLUMNS, EACH)
    # Lanes beyond the map repeat its last column and are not stored.
    from_column = tl.minimum(column, map_width - 1) - left
    a += plane * a_plane
    b += plane * b_plane
    shift_a = plane_constant(a, height, width, a_row, a_column)
    shift_b = plane_constant(b, height, width, b_row, b_column)
    if maps is not None:
        tl.store(shifts + plane, shift_a)
        tl.store(shifts + planes + plane, shift_b)
        area = map_area(planes, map_height, map_width, MARGIN_Y, MARGIN_X)
        clear_margins(
            maps,
            area,
            plane,
            first,
            end,
            column,
            map_height,
            map_width,
            2 + FOR_A + FOR_B,
            MARGIN_Y,
            MARGIN_X,
            EACH,
        )
    ring = zero_rows(4 * EACH * size, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    # Pointers step from row to row, so that no product is formed in the loop: those to images from
    # the first row that is read, the others from that of the window that ends there.
    at_a = row_at(a, first - top, from_column, a_row, a_column)
    at_b = row_at(b, first - top, from_column, b_row, b_column)
    done = first - (size - 1)
    here = plane * map_height * map_width + tl.cast(done, tl.int64) * map_width + column
    if maps is not None:
        at_map = map_offset(plane, done, column, map_height, map_width, MARGIN_Y, MARGIN_X)
    if grad_output is not None:
        grad_output += plane * grad_output_plane
        at_grad = row_at(grad_output, done, column, grad_output_row, grad_output_column)
    a_step = tl.cast(a_row, tl.int64)
    b_step = tl.cast(b_row, tl.int64)
    grad_step = tl.cast(grad_output_row, tl.int64)
    for row in range(first - top, end - top + size - 1):
        present = present_width(row, height, width, PADDED)
        filtered = pair_rows(
            at_a,
            at_b,
            shift_a,
            shift_b,
            from_column,
            present,
            a_column,
            b_column,
            TAPS_X,
            PADDED,
            EACH,
        )
        ring = push(ring, filtered, TAPS_Y)
        if row >= first - top + (size - 1):
            for c in tl.static_range(EACH):
                inside = column + c < map_width
                mean_a = ring[4 * c * size]
                mean_b = ring[(4 * c + 1) * size]
                value, grad_mean_a, grad_mean_b, grad_second_moment, grad_cross = similarity(
                    mean_a,
                    mean_b,
                    ring[(4 * c + 2) * size] - mean_a * mean_a - mean_b * mean_b,
                    ring[(4 * c + 3) * size],
                    shift_a,
                    shift_b,
                    c1,
                    c2,
                    LUMINANCE,
                )
                if values is not None:
                    to = values + here + c
                    tl.store(to, stored(value, values.dtype.element_ty), mask=inside)
                if sums is not None:
                    total += tl.where(inside, value, 0.0)
                if maps is not None:
                    grad = scale
                    if grad_output is not None:
                        at_window = at_grad + c * tl.cast(grad_output_column, tl.int64)
                        grad = tl.load(at_window, mask=inside, other=0).to(tl.float32)
                    derivatives = (grad * grad_second_moment, grad * grad_cross)
                    if FOR_A:
                        derivatives = derivatives + (grad * grad_mean_a,)
                    if FOR_B:
                        derivatives = derivatives + (grad * grad_mean_b,)
                    store_maps(maps, at_map + c, area, derivatives, inside)
        at_a += a_step
        at_b += b_step
        here += map_width
        if maps is not None:
            at_map += map_width + 2 * MARGIN_X
        if grad_output is not None:
            at_grad += grad_step
    if sums is not None:
        tl.store(sums + program, tl.sum(total, axis=0))
