r"""Normalisation, ReLU and 2×2 max pooling, forward and backward; see activation.py.

A cell is a 2×2 block of pixels, or a part of one at odd right and bottom edges. Pixels there are
normalised but belong to no maximum, as in ``torch.nn.functional.max_pool2d``. The backward pass
recomputes from x which pixel of a cell is the largest: the first of equal ones, and NaN counts as
the largest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.launching import ARITHMETIC, BYTES_IN_FLIGHT, Configuration, Kernel, cdiv
from .activation import steps_for
from .channels import (
    activation,
    affine,
    batchnorm_correction,
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

# Elements of a tile of cells, each of which is four values. With half as many in the forward pass
# the kernel spills on sm_100.
FORWARD, BACKWARD = 2048, 1024
WARPS = 4


@triton.jit
def _cells(first, cells, height, width, CELLS: tl.constexpr):
    """Return plane (int64), row, column (int32) and existence of CELLS cells from ``first`` on."""
    columns = (width + 1) // 2
    rows = (height + 1) // 2
    lane = tl.arange(0, CELLS)[:, None]
    column = (first % columns).to(tl.int32) + lane
    line = first // columns
    row = (line % rows).to(tl.int32) + column // columns
    return line // rows + row // rows, row % rows, column % columns, lane < cells - first


@triton.jit
def _pixel(plane, row, column, inside, k: tl.constexpr, height, width, channels, c):
    """Return the offset of pixel ``k`` of each cell, and whether it exists."""
    y = 2 * row + k // 2
    x = 2 * column + k % 2
    at = ((plane * height + y) * width + x) * channels + c
    return at, inside & (y < height) & (x < width)


@triton.jit
def _pooled(plane, row, column, inside, height, width, channels, c):
    """Return the offset of the maximum of each cell, and whether it exists."""
    at = ((plane * (height // 2) + row) * (width // 2) + column) * channels + c
    return at, inside & (row < height // 2) & (column < width // 2)


@by_vectors("x", "y", "pooled", "mean", "variance", "weight", "bias")
def pool_kernel(
    x,
    y,
    pooled,
    mean,
    variance,
    weight,
    bias,
    eps,
    cells,
    height,
    width,
    channels,
    steps,
    CELLS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute the maxima, and y if it is wanted, for one slab of cells."""
    slab, c = locate_tile(channels, CHANNELS)
    center, _, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    for i in range(steps):
        first = (slab * steps + i) * CELLS
        plane, row, column, there = _cells(first, cells, height, width, CELLS)
        inside = there & (c < channels)
        best = tl.full((CELLS, CHANNELS), float("-inf"), tl.float32)
        for k in tl.static_range(4):
            at, there = _pixel(plane, row, column, inside, k, height, width, channels, c)
            values = tl.load(x + at, mask=there, other=0).to(tl.float32)
            values = activation(values, center, scale, offset)
            if y is not None:
                tl.store(y + at, values.to(y.dtype.element_ty), mask=there)
            best = tl.maximum(best, values, propagate_nan=tl.PropagateNan.ALL)
        at, there = _pooled(plane, row, column, inside, height, width, channels, c)
        tl.store(pooled + at, best.to(pooled.dtype.element_ty), mask=there)


@by_vectors(
    "x", "grad_y", "grad_pooled", "grad_x", "parts", "mean", "variance", "weight", "bias", "sums"
)
def pool_backward_kernel(
    x,
    grad_y,
    grad_pooled,
    grad_x,
    parts,
    mean,
    variance,
    weight,
    bias,
    eps,
    sums,
    count,
    cells,
    height,
    width,
    channels,
    steps,
    CELLS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Fill ``parts`` with the two sums, or ``grad_x`` with the gradient."""
    slab, c = locate_tile(channels, CHANNELS)
    center, inverse, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    if sums is not None:
        level, slope = batchnorm_correction(sums, count, inverse, c, channels)
    dtype: tl.constexpr = x.dtype.element_ty
    total = tl.zeros((CELLS, CHANNELS), tl.float32)
    product = tl.zeros((CELLS, CHANNELS), tl.float32)
    for i in range(steps):
        first = (slab * steps + i) * CELLS
        plane, row, column, there = _cells(first, cells, height, width, CELLS)
        inside = there & (c < channels)
        best = tl.full((CELLS, CHANNELS), float("-inf"), tl.float32)
        winner = tl.full((CELLS, CHANNELS), 0, tl.int32)
        for k in tl.static_range(4):
            at, there = _pixel(plane, row, column, inside, k, height, width, channels, c)
            values = tl.load(x + at, mask=there, other=0).to(tl.float32)
            # Values are compared in the dtype of y, in which different values may be equal.
            values = activation(values, center, scale, offset).to(dtype).to(tl.float32)
            larger = (values > best) | (values != values)
            best = tl.where(larger, values, best)
            winner = tl.where(larger, k, winner)
        at, there = _pooled(plane, row, column, inside, height, width, channels, c)
        grad_max = tl.load(grad_pooled + at, mask=there, other=0).to(tl.float32)
        for k in tl.static_range(4):
            at, there = _pixel(plane, row, column, inside, k, height, width, channels, c)
            # Four tiles do not fit into registers, so x is read again, from the first-level cache.
            values = tl.load(x + at, mask=there, other=0).to(tl.float32)
            dz = tl.where(winner == k, grad_max, 0.0)
            if grad_y is not None:
                dz += tl.load(grad_y + at, mask=there, other=0).to(tl.float32)
            dz = where_positive(dz, values, center, scale, offset)
            if parts is not None:
                total += dz
                product += dz * (values - center)
            if grad_x is not None:
                if sums is not None:
                    dz -= level + (values - center) * slope
                tl.store(grad_x + at, (scale * dz).to(dtype), mask=there)
    if parts is not None:
        store_sums(parts, slab, total, product, c, channels)


def tile_cells(channels: int, elements: int = BACKWARD) -> int:
    """Return the cells of a tile."""
    return elements // widest(channels)


def _cell_count(x: Tensor) -> int:
    """Return the number of cells of a batch."""
    batch, _, height, width = x.shape
    return batch * cdiv(height, 2) * cdiv(width, 2)


def slabs(x: Tensor, elements: int = BACKWARD) -> tuple[int, int]:
    """Return the number of slabs of cells (one for each program), and the tiles in each."""
    channels = x.shape[1]
    tiles = cdiv(_cell_count(x), tile_cells(channels, elements))
    steps = steps_for(tiles, cdiv(channels, widest(channels)))
    return cdiv(tiles, steps), steps


def apply(x: Tensor, y: Tensor | None, pooled: Tensor, *affine: Tensor | float | None) -> None:
    """Fill ``y`` and ``pooled``. ``affine`` are the kernel's arguments from ``mean`` to ``eps``."""
    _launch(pool_kernel, FORWARD, x, y, pooled, *affine)


def backward(
    x: Tensor,
    grad_y: Tensor | None,
    grad_pooled: Tensor,
    grad_x: Tensor | None,
    parts: Tensor | None,
    *statistics: Tensor | float | None,
) -> None:
    """Fill ``parts`` ``(P, 2, C)`` for the P slabs of :func:`slabs`, or ``grad_x``.

    ``statistics`` are the arguments of the kernel from ``mean`` to ``count``.
    """
    _launch(pool_backward_kernel, BACKWARD, x, grad_y, grad_pooled, grad_x, parts, *statistics)


def _launch(kernel: Kernel, elements: int, x: Tensor, *arguments: Any) -> None:
    """Launch a kernel with the sizes and the tile that both have in common."""
    _, channels, height, width = x.shape
    programs, steps = slabs(x, elements)
    sizes = (_cell_count(x), height, width, channels, steps)
    cells = tile_cells(channels, elements)
    launch_tiles(kernel, programs, WARPS, x, *arguments, *sizes, CELLS=cells)


def _variants(dtype: str, size: int, aligned: bool = True) -> list[Configuration]:
    """Return the variants of the forward pass, the sums and the gradient."""
    forward, backward = (pool_kernel, FORWARD), (pool_backward_kernel, BACKWARD)
    rows: list[tuple[str, tuple[Kernel, int], tuple[str, ...], float, int]] = [
        ("forward", forward, ("y",), 1.25, BYTES_IN_FLIGHT),
        ("forward, both results", forward, (), 2.25, ARITHMETIC),
        ("sums", backward, ("grad_y", "grad_x", "sums", "count"), 1.25, BYTES_IN_FLIGHT),
        ("sums, both results", backward, ("grad_x", "sums", "count"), 2.25, ARITHMETIC),
        ("gradient", backward, ("grad_y", "parts"), 2.25, ARITHMETIC),
        ("gradient, both results", backward, ("parts",), 3.25, ARITHMETIC),
    ]
    variants = []
    for name, (kernel, elements), absent, floor, resident in rows:
        tile = {"CELLS": tile_cells(64, elements)}
        found = configuration(
            name, kernel, dtype, tile, floor * size, resident, WARPS, absent, aligned
        )
        variants.append(replace(found, pixels=4 * found.pixels))
    return variants


CONFIGURATIONS = [
    *_variants("bf16", 2),
    *_variants("fp32", 4),
    *_variants("bf16", 2, aligned=False),
]
