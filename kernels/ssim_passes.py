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

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ._configure import WINDOW, configuration
from ._launch import BYTES_ON_THE_WAY
from ._tile import stored
from ._windows import (
    filter_row,
    load_tap,
    locate_strip,
    plane_constant,
    present_width,
    push,
    row_at,
    zero_rows,
)

if TYPE_CHECKING:
    from ._launch import Configuration


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


def _configuration(
    name: str,
    kernel: Any,
    pointers: dict[str, str],
    bytes_per_pixel: float,
    border: str = "valid",
    luminance: bool = True,
) -> Configuration:
    given = {x: f"*{dtype}:16" for x, dtype in pointers.items()}
    given |= {x: "fp32" for x in ("c1", "c2", "scale") if x in kernel.arg_names}
    optional = ("upstream", "values", "sums", "shifts", *_MAPS, "gradient_a", "gradient_b")
    fixed = {"PADDED": border == "zero", "a_column": 1, "b_column": 1}
    if kernel is ssim_kernel:
        fixed |= {"LUMINANCE": luminance, "upstream_column": 1}
    absent = [x for x in optional if x in kernel.arg_names and x not in given]
    return configuration(
        f"{name}, {border} border, {'with' if luminance else 'no'} luminance, {pointers['a']}",
        kernel,
        given,
        {**WINDOW, **fixed, **dict.fromkeys(absent)},
        bytes_per_pixel,
        resident=BYTES_ON_THE_WAY,
    )


_MAPS = ("by_power", "by_cross", "by_mean_a", "by_mean_b")
_FOR_A = dict.fromkeys((*_MAPS[:3], "shifts"), "fp32")
_FOR_BOTH = dict.fromkeys((*_MAPS, "shifts"), "fp32")
_HALF = {"a": "bf16", "b": "bf16"}
_SINGLE = {"a": "fp32", "b": "fp32"}
_MEAN = {**_SINGLE, "sums": "fp32"}
CONFIGURATIONS = [
    _configuration("ssim map", ssim_kernel, {**_SINGLE, "values": "fp32"}, 12),
    _configuration("ssim map", ssim_kernel, {**_SINGLE, "values": "fp32"}, 12, "zero"),
    _configuration("ssim map", ssim_kernel, {**_HALF, "values": "bf16"}, 6, luminance=False),
    _configuration("ssim mean", ssim_kernel, _MEAN, 8),
    _configuration("ssim mean, one gradient", ssim_kernel, {**_MEAN, **_FOR_A}, 20),
    _configuration("ssim mean, both gradients", ssim_kernel, {**_MEAN, **_FOR_BOTH}, 24, "zero"),
    _configuration(
        "ssim map backward, first pass",
        ssim_kernel,
        {**_SINGLE, **_FOR_BOTH, "upstream": "fp32"},
        28,
    ),
    _configuration(
        "one gradient, second pass",
        ssim_adjoint_kernel,
        {**_SINGLE, **_FOR_A, "gradient_a": "fp32"},
        24,
    ),
    _configuration(
        "both gradients, second pass",
        ssim_adjoint_kernel,
        {**_SINGLE, **_FOR_BOTH, "gradient_a": "fp32", "gradient_b": "fp32"},
        32,
    ),
    _configuration(
        "both gradients, second pass",
        ssim_adjoint_kernel,
        {**_HALF, **_FOR_BOTH, "gradient_a": "bf16", "gradient_b": "bf16"},
        24,
        "zero",
    ),
]
