r"""Windowed SSIM of two images, its mean, and the gradients by both

.. math::
    \mathrm{SSIM} = l\,s, \quad l = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}, \quad
    s = \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2}

Four filtered maps are enough: a, b, ab and a² + b², because only the sum of the variances enters.
For the same reason four derivative maps make both gradients (three make one):

.. math::
    \partial L / \partial a = w * d_a + 2 a\,(w * d_p) + b\,(w * d_c)

with d the derivatives of L by the windows' moments. The first pass makes SSIM or its sum and, where
a gradient is wanted, d; the second filters d. Both images are taken minus a constant of the plane.
"""

from __future__ import annotations

import triton
import triton.language as tl

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
):
    """One row of (a, b, a² + b², ab), filtered along the row."""
    mean_a = tl.zeros(column.shape, tl.float32)
    mean_b = tl.zeros(column.shape, tl.float32)
    power = tl.zeros(column.shape, tl.float32)
    cross = tl.zeros(column.shape, tl.float32)
    for j in tl.static_range(len(TAPS)):
        x = load_tap(a, j, column, width, a_column, PADDED) - shift_a
        y = load_tap(b, j, column, width, b_column, PADDED) - shift_b
        weighted = TAPS[j] * x
        mean_a += weighted
        mean_b += TAPS[j] * y
        power += weighted * x + TAPS[j] * y * y
        cross += weighted * y
    return mean_a, mean_b, power, cross


@triton.jit
def ssim_kernel(
    a,
    b,
    upstream,  # dL/dSSIM at every window, or None: then it is `scale`
    values,  # SSIM, or None
    sums,  # of SSIM over the program's part, or None
    by_power,  # the derivatives d_p, d_c, d_a, d_b: None where not wanted
    by_cross,
    by_mean_a,
    by_mean_b,
    shifts,  # the constants of the planes of a, then of b, where derivatives are wanted
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
    upstream_plane,
    upstream_row,
    upstream_column,
    LUMINANCE: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    top: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    left: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    program = tl.program_id(0)
    plane, first, end, column = locate_strip(program, map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    # What lies beyond the map is computed like its last column, and not stored.
    from_column = tl.minimum(column, map_width - 1) - left
    a += plane * a_plane
    b += plane * b_plane
    shift_a = plane_constant(a, height, width, a_row, a_column)
    shift_b = plane_constant(b, height, width, b_row, b_column)
    if by_power is not None:
        tl.store(shifts + plane, shift_a)
        tl.store(shifts + planes + plane, shift_b)
    if upstream is not None:
        upstream += plane * upstream_plane
    to = plane * map_height * map_width + column
    ring = zero_rows(4 * size, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    for row in range(first - top, end - top + size - 1):
        at_a = row_at(a, row, from_column, a_row, a_column)
        at_b = row_at(b, row, from_column, b_row, b_column)
        present = present_width(row, height, width, PADDED)
        filtered = pair_rows(
            at_a, at_b, shift_a, shift_b, from_column, present, a_column, b_column, TAPS_X, PADDED
        )
        ring = push(ring, filtered, TAPS_Y)
        done = row + top - size + 1
        if done >= first:
            mean_a = ring[0]
            mean_b = ring[size]
            spread = ring[2 * size] - mean_a * mean_a - mean_b * mean_b + c2
            inverse = 1.0 / spread
            structure = (2 * (ring[3 * size] - mean_a * mean_b) + c2) * inverse
            similarity = structure
            if LUMINANCE:
                true_a = mean_a + shift_a
                true_b = mean_b + shift_b
                below = 1.0 / (true_a * true_a + true_b * true_b + c1)
                luminance = (2 * true_a * true_b + c1) * below
                similarity = structure * luminance
            here = to + tl.cast(done, tl.int64) * map_width
            if values is not None:
                tl.store(values + here, stored(similarity, values.dtype.element_ty), mask=inside)
            if sums is not None:
                total += tl.where(inside, similarity, 0.0)
            if by_power is not None:
                if upstream is not None:
                    at = row_at(upstream, done, column, upstream_row, upstream_column)
                    given = tl.load(at, mask=inside, other=0).to(tl.float32)
                else:
                    given = scale
                slope = given * inverse
                if LUMINANCE:
                    slope *= luminance
                tl.store(by_power + here, -structure * slope, mask=inside)
                tl.store(by_cross + here, 2 * slope, mask=inside)
                if by_mean_a is not None:
                    d = 2 * slope * (mean_a * structure - mean_b)
                    if LUMINANCE:
                        d += given * structure * 2 * below * (true_b - true_a * luminance)
                    tl.store(by_mean_a + here, d, mask=inside)
                if by_mean_b is not None:
                    d = 2 * slope * (mean_b * structure - mean_a)
                    if LUMINANCE:
                        d += given * structure * 2 * below * (true_a - true_b * luminance)
                    tl.store(by_mean_b + here, d, mask=inside)
    if sums is not None:
        tl.store(sums + program, tl.sum(total, axis=0))
