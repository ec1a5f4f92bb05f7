r"""Normalisation, ReLU and ×2 bilinear upsampling, forward and backward; see activation.py.

Along each axis, with repeated edges:

.. math::
    u_{2i} = \tfrac14 y_{i-1} + \tfrac34 y_i, \quad u_{2i+1} = \tfrac34 y_i + \tfrac14 y_{i+1},
    \qquad \frac{\partial L}{\partial y_i} = \tfrac14 g_{2i-1} + \tfrac34 g_{2i} +
        \tfrac34 g_{2i+1} + \tfrac14 g_{2i+2}

with g the gradient w.r.t. u. Repeating the edges of g gives the border terms as well, so that the
gradient is gathered without atomics. A program handles some columns of some rows and marches down:
it filters each row along x once and keeps it in registers for the rows above and below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.launching import BYTES_IN_FLIGHT, MANY_MAPS, Kernel, cdiv
from .channels import (
    activation,
    affine,
    by_vectors,
    configuration,
    launch_tiles,
    locate_tile,
    store_sums,
    where_positive,
    widest,
)

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 1024  # values in a tile
WARPS = 4
ROWS = 8  # the fewest rows of a strip, which reads two more
PROGRAMS = 2048
LONGEST = 64


@triton.jit
def _strip(tile, height, width, rows, PIXELS: tl.constexpr):
    """Return plane, first row, row after the last one and columns of a program."""
    blocks = (width - 1) // PIXELS + 1
    strips = (height - 1) // rows + 1
    line = tile // blocks
    top = (line % strips).to(tl.int32) * rows
    column = (tile % blocks).to(tl.int32) * PIXELS + tl.arange(0, PIXELS)[:, None]
    return line // strips, top, tl.minimum(top + rows, height), column


@triton.jit
def _offset(column, channels, c):
    """Return the offset of the channels ``c`` of a column, in int64."""
    return column.to(tl.int64) * channels + c


@triton.jit
def _upsampled_row(row, lanes, before, after, inside, center, scale, offset):
    """Return a row, upsampled along x, at the even and at the odd columns."""
    here = tl.load(row + lanes, mask=inside, other=0).to(tl.float32)
    here = 0.75 * activation(here, center, scale, offset)
    left = tl.load(row + before, mask=inside, other=0).to(tl.float32)
    right = tl.load(row + after, mask=inside, other=0).to(tl.float32)
    even = here + 0.25 * activation(left, center, scale, offset)
    odd = here + 0.25 * activation(right, center, scale, offset)
    return even, odd


@by_vectors("x", "up", "mean", "variance", "weight", "bias")
def upsample_kernel(
    x,
    up,
    mean,
    variance,
    weight,
    bias,
    eps,
    height,
    width,
    channels,
    rows,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute the upsampled activation of one strip."""
    tile, c = locate_tile(channels, CHANNELS)
    center, _, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    plane, top, end, column = _strip(tile, height, width, rows, PIXELS)
    inside = (column < width) & (c < channels)
    lanes = _offset(column, channels, c)
    before = _offset(tl.maximum(column - 1, 0), channels, c)
    after = _offset(tl.minimum(column + 1, width - 1), channels, c)
    pitch = width.to(tl.int64) * channels
    x += plane * height * pitch
    up += 4 * plane * height * pitch + _offset(2 * column, channels, c)

    row = x + tl.maximum(top - 1, 0) * pitch
    even, odd = _upsampled_row(row, lanes, before, after, inside, center, scale, offset)
    row = x + top * pitch
    even1, odd1 = _upsampled_row(row, lanes, before, after, inside, center, scale, offset)
    dtype: tl.constexpr = up.dtype.element_ty
    for y in range(top, end):
        row = x + tl.minimum(y + 1, height - 1) * pitch
        even2, odd2 = _upsampled_row(row, lanes, before, after, inside, center, scale, offset)
        to = up + 4 * y * pitch
        tl.store(to, (0.25 * even + 0.75 * even1).to(dtype), mask=inside)
        tl.store(to + channels, (0.25 * odd + 0.75 * odd1).to(dtype), mask=inside)
        to += 2 * pitch
        tl.store(to, (0.75 * even1 + 0.25 * even2).to(dtype), mask=inside)
        tl.store(to + channels, (0.75 * odd1 + 0.25 * odd2).to(dtype), mask=inside)
        even, odd, even1, odd1 = even1, odd1, even2, odd2


@triton.jit
def _gathered_row(row, first, second, channels, fourth, inside):
    """Return a row of the upsampled gradient, gathered along x to the columns before upsampling.

    The third of the four columns is the pixel after the second. Its addresses are computed here:
    if they were kept in registers, Triton 3.4 would spill on sm_80.
    """
    outer = tl.load(row + first, mask=inside, other=0).to(tl.float32)
    outer += tl.load(row + fourth, mask=inside, other=0).to(tl.float32)
    inner = tl.load(row + second, mask=inside, other=0).to(tl.float32)
    inner += tl.load(row + channels + second, mask=inside, other=0).to(tl.float32)
    return 0.25 * outer + 0.75 * inner


@by_vectors("x", "grad_up", "grad_z", "parts", "mean", "variance", "weight", "bias")
def gather_kernel(
    x,
    grad_up,
    grad_z,
    parts,
    mean,
    variance,
    weight,
    bias,
    eps,
    height,
    width,
    channels,
    rows,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute the gradient w.r.t. the image before ReLU, and its sums."""
    tile, c = locate_tile(channels, CHANNELS)
    center, _, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    plane, top, end, column = _strip(tile, height, width, rows, PIXELS)
    inside = (column < width) & (c < channels)
    lanes = _offset(column, channels, c)
    pitch = width.to(tl.int64) * channels
    x += plane * height * pitch
    grad_z += plane * height * pitch
    grad_up += 4 * plane * height * pitch
    first = _offset(tl.maximum(2 * column - 1, 0), channels, c)
    second = 2 * lanes - c
    fourth = _offset(tl.minimum(2 * column + 2, 2 * width - 1), channels, c)

    row = grad_up + tl.maximum(2 * top - 1, 0) * 2 * pitch
    above = _gathered_row(row, first, second, channels, fourth, inside)
    row = grad_up + 4 * top * pitch
    upper = _gathered_row(row, first, second, channels, fourth, inside)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    product = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for y in range(top, end):
        row = grad_up + (4 * y + 2) * pitch
        lower = _gathered_row(row, first, second, channels, fourth, inside)
        row = grad_up + tl.minimum(2 * y + 2, 2 * height - 1) * 2 * pitch
        below = _gathered_row(row, first, second, channels, fourth, inside)
        values = tl.load(x + y * pitch + lanes, mask=inside, other=0).to(tl.float32)
        dz = 0.25 * (above + below) + 0.75 * (upper + lower)
        dz = where_positive(dz, values, center, scale, offset)
        tl.store(grad_z + y * pitch + lanes, dz.to(grad_z.dtype.element_ty), mask=inside)
        total += dz
        product += dz * (values - center)
        above, upper = lower, below
    store_sums(parts, tile, total, product, c, channels)


def tile_pixels(channels: int) -> int:
    """Return the columns of a strip."""
    return ELEMENTS // widest(channels)


def strips(x: Tensor) -> tuple[int, int]:
    """Return the number of strips (one for each program), and the rows in each."""
    batch, channels, height, width = x.shape
    columns = batch * cdiv(width, tile_pixels(channels)) * cdiv(channels, widest(channels))
    rows = max(ROWS, min(LONGEST, columns * height // PROGRAMS))
    return batch * cdiv(width, tile_pixels(channels)) * cdiv(height, rows), rows


def apply(x: Tensor, up: Tensor, *affine: Tensor | float | None) -> None:
    """Fill ``up``. ``affine`` are the arguments of the kernel from ``mean`` to ``eps``."""
    _launch(upsample_kernel, x, up, *affine)


def gather(
    x: Tensor, grad_up: Tensor, grad_z: Tensor, parts: Tensor, *affine: Tensor | float | None
) -> None:
    """Fill ``grad_z``, shaped like x, and ``parts`` ``(P, 2, C)`` for the P :func:`strips`."""
    _launch(gather_kernel, x, grad_up, grad_z, parts, *affine)


def _launch(kernel: Kernel, x: Tensor, *arguments: Any) -> None:
    """Launch a kernel with the sizes and the tile that both have in common."""
    _, channels, height, width = x.shape
    programs, rows = strips(x)
    sizes = (height, width, channels, rows)
    launch_tiles(kernel, programs, WARPS, x, *arguments, *sizes, PIXELS=tile_pixels(channels))


CONFIGURATIONS = [
    configuration(
        name,
        kernel,
        dtype,
        {"PIXELS": tile_pixels(64)},
        floor * size,
        resident,
        WARPS,
        aligned=aligned,
    )
    for dtype, size, aligned in (("bf16", 2, True), ("fp32", 4, True), ("bf16", 2, False))
    for name, kernel, floor, resident in (
        ("forward", upsample_kernel, 5, BYTES_IN_FLIGHT),
        ("gradient by z and sums", gather_kernel, 6, MANY_MAPS),
    )
]
