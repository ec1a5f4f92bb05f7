r"""sobel_gradient: :math:`S = \sqrt{g_x^2 + g_y^2}`, :math:`g_x = K_x * I`, edges repeated

Its gradient gathers, at every pixel p, from the 3×3 neighbours q that saw p:

.. math::
    \partial L / \partial I_p = \sum_q \frac{\partial L / \partial S_q}{S_q}
        \big(g_x(q) K_x(p - q) + g_y(q) K_y(p - q)\big)

The neighbours' :math:`g_x, g_y` are computed again from 5×5 pixels, which are in the first-level
cache, so both directions are one pass. Where S = 0 the gradient is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import configuration
from ..common.launching import SINGLE_VALUES, launch
from ..common.tiles import stored
from ..common.windows import COLUMNS, locate_strip, row_at, strip_programs, strip_rows, within

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def neighbours(image, row, column, height, width, row_stride, column_stride, REACH: tl.constexpr):
    """The (2 REACH + 1)² pixels around each column, edges repeated, row by row."""
    values = ()
    for i in tl.static_range(2 * REACH + 1):
        y = tl.minimum(tl.maximum(row + i - REACH, 0), height - 1)
        for j in tl.static_range(2 * REACH + 1):
            x = tl.minimum(tl.maximum(column + j - REACH, 0), width - 1)
            at = row_at(image, y, x, row_stride, column_stride)
            values = values + (tl.load(at).to(tl.float32),)
    return values


@triton.jit
def sobel_at(v, corner: tl.constexpr, step: tl.constexpr):
    """(g_x, g_y, S) from pixels in rows of ``step``; ``corner`` is the first of the 3×3."""
    a: tl.constexpr = corner
    b: tl.constexpr = corner + step
    c: tl.constexpr = corner + 2 * step
    across = (v[a + 2] - v[a]) + 2 * (v[b + 2] - v[b]) + (v[c + 2] - v[c])
    down = (v[c] - v[a]) + 2 * (v[c + 1] - v[a + 1]) + (v[c + 2] - v[a + 2])
    return across, down, tl.sqrt_rn(across * across + down * down)


@triton.jit
def magnitude(image, row, column, height, width, row_stride, column_stride):
    v = neighbours(image, row, column, height, width, row_stride, column_stride, 1)
    return sobel_at(v, 0, 3)[2]


@triton.jit
def difference_tap(offset: tl.constexpr, at, size):
    """By pixel ``at``: the difference centred ``offset`` pixels on, repeated edges included."""
    if offset == 0:
        tap = tl.where(at == size - 1, 1.0, 0.0) - tl.where(at == 0, 1.0, 0.0)
    else:
        tap = -1.0 * offset
    return tap


@triton.jit
def smoothing_tap(offset: tl.constexpr, at, size):
    if offset == 0:
        tap = 2.0 + tl.where(at == size - 1, 1.0, 0.0) + tl.where(at == 0, 1.0, 0.0)
    else:
        tap = 1.0
    return tap


@triton.jit
def sobel_adjoint(
    upstream,  # dL/dS of a plane; it begins at pixel (top, left)
    image,
    row,
    column,
    height,
    width,
    row_stride,
    column_stride,
    map_height,
    map_width,
    top,
    left,
    upstream_row,
    upstream_column,
):
    """dL/dI of the columns of a row."""
    v = neighbours(image, row, column, height, width, row_stride, column_stride, 2)
    total = tl.zeros(column.shape, tl.float32)
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            y = row + (i - 1) - top
            x = column + (j - 1) - left
            inside = within(y, x, map_height, map_width)
            at = row_at(upstream, y, x, upstream_row, upstream_column)
            given = tl.load(at, mask=inside, other=0).to(tl.float32)
            across, down, strength = sobel_at(v, 5 * i + j, 5)
            given = tl.where(inside & (strength != 0), given / strength, 0.0)
            by_across = smoothing_tap(i - 1, row, height) * difference_tap(j - 1, column, width)
            by_down = difference_tap(i - 1, row, height) * smoothing_tap(j - 1, column, width)
            total += given * (across * by_across + down * by_down)
    return total


@triton.jit
def sobel_kernel(
    images,
    out,
    height,
    width,
    rows,
    image_plane,
    image_row,
    image_column,
    COLUMNS: tl.constexpr,
):
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    images += plane * image_plane
    out += plane * height * width + column
    for row in range(first, end):
        value = magnitude(images, row, column, height, width, image_row, image_column)
        to = out + tl.cast(row, tl.int64) * width
        tl.store(to, stored(value, out.dtype.element_ty), mask=column < width)


def sobel_gradient(images: Tensor) -> Tensor:
    out = images.new_empty(images.shape)
    planes, height, width = images.shape
    rows = strip_rows(planes, height, width)
    launch(
        sobel_kernel,
        strip_programs(planes, height, width, rows),
        images.device,
        images,
        out,
        height,
        width,
        rows,
        *images.stride(),
        COLUMNS=COLUMNS,
        num_warps=4,
    )
    return out


CONFIGURATIONS = [
    configuration(
        f"sobel_gradient, {dtype}",
        sobel_kernel,
        {"images": f"*{dtype}:16", "out": f"*{dtype}:16"},
        {"image_column": 1, "COLUMNS": COLUMNS},
        2 * size,
        resident=SINGLE_VALUES,
    )
    for dtype, size in (("fp16", 2), ("bf16", 2), ("fp32", 4))
]
