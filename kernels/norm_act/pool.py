r"""Normalisation and ReLU with the 2×2 maximum of what comes out, each way; see norm_act.py.

A cell is a 2×2 block of pixels, at odd right and bottom edges a part of one: such pixels are
normalised but belong to no maximum, as in ``torch.nn.functional.max_pool2d``. Which pixel of a cell
was the largest is found again from x: the first of equal ones, and NaN before all numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.launching import ARITHMETIC, BYTES_ON_THE_WAY, Configuration, Kernel, cdiv
from .activation import steps_for
from .channels import (
    activation,
    affine,
    by_vectors,
    configuration,
    launch_tiles,
    place,
    put_sums,
    spread,
    where_positive,
    widest,
)

if TYPE_CHECKING:
    from torch import Tensor

# Of a tile of cells, which is four times as many values. Half as many forward spill on sm_100.
FORWARD, BACKWARD = 2048, 1024
WARPS = 4


@triton.jit
def _cells(first, cells, height, width, CELLS: tl.constexpr):
    """Plane (int64), row and column (int32) of the cells from ``first`` on; which are there."""
    columns = (width + 1) // 2
    rows = (height + 1) // 2
    lane = tl.arange(0, CELLS)[:, None]
    column = (first % columns).to(tl.int32) + lane
    line = first // columns
    row = (line % rows).to(tl.int32) + column // columns
    return line // rows + row // rows, row % rows, column % columns, lane < cells - first


@triton.jit
def _pixel(plane, row, column, inside, k: tl.constexpr, height, width, channels, c):
    """Where pixel ``k`` of each cell is, and whether it is there."""
    y = 2 * row + k // 2
    x = 2 * column + k % 2
    at = ((plane * height + y) * width + x) * channels + c
    return at, inside & (y < height) & (x < width)


@triton.jit
def _pooled(plane, row, column, inside, height, width, channels, c):
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
    slab, c = place(channels, CHANNELS)
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


@by_vectors("x", "by_y", "by_pooled", "by_x", "parts", "mean", "variance", "weight", "bias", "sums")
def pool_backward_kernel(
    x,
    by_y,
    by_pooled,
    by_x,
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
    """With ``parts`` the two sums, with ``by_x`` the gradient."""
    slab, c = place(channels, CHANNELS)
    center, inverse, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    if sums is not None:
        level, slope = spread(sums, count, inverse, c, channels)
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
            # Compared as stored: values that differ may be equal there.
            values = activation(values, center, scale, offset).to(dtype).to(tl.float32)
            larger = (values > best) | (values != values)
            best = tl.where(larger, values, best)
            winner = tl.where(larger, k, winner)
        at, there = _pooled(plane, row, column, inside, height, width, channels, c)
        upstream = tl.load(by_pooled + at, mask=there, other=0).to(tl.float32)
        for k in tl.static_range(4):
            at, there = _pixel(plane, row, column, inside, k, height, width, channels, c)
            # Read again, from the nearest cache: four tiles do not fit in the registers.
            values = tl.load(x + at, mask=there, other=0).to(tl.float32)
            dz = tl.where(winner == k, upstream, 0.0)
            if by_y is not None:
                dz += tl.load(by_y + at, mask=there, other=0).to(tl.float32)
            dz = where_positive(dz, values, center, scale, offset)
            if parts is not None:
                total += dz
                product += dz * (values - center)
            if by_x is not None:
                if sums is not None:
                    dz -= level + (values - center) * slope
                tl.store(by_x + at, (scale * dz).to(dtype), mask=there)
    if parts is not None:
        put_sums(parts, slab, total, product, c, channels)


def tile_cells(channels: int, elements: int = BACKWARD) -> int:
    return elements // widest(channels)


def _cell_count(x: Tensor) -> int:
    batch, _, height, width = x.shape
    return batch * cdiv(height, 2) * cdiv(width, 2)


def slabs(x: Tensor, elements: int = BACKWARD) -> tuple[int, int]:
    """How many programs share the cells, and how many tiles each one reads."""
    channels = x.shape[1]
    tiles = cdiv(_cell_count(x), tile_cells(channels, elements))
    steps = steps_for(tiles, cdiv(channels, widest(channels)))
    return cdiv(tiles, steps), steps


def apply(x: Tensor, y: Tensor | None, pooled: Tensor, *affine: Tensor | float | None) -> None:
    """``affine``: what the kernel takes from ``mean`` to ``eps``."""
    _launch(pool_kernel, FORWARD, x, y, pooled, *affine)


def backward(
    x: Tensor,
    by_y: Tensor | None,
    by_pooled: Tensor,
    by_x: Tensor | None,
    parts: Tensor | None,
    *statistics: Tensor | float | None,
) -> None:
    """Fills ``parts`` (P, 2, C), of as many slabs as :func:`slabs` says, or ``by_x``.

    ``statistics``: what the kernel takes from ``mean`` to ``count``.
    """
    _launch(pool_backward_kernel, BACKWARD, x, by_y, by_pooled, by_x, parts, *statistics)


def _launch(kernel: Kernel, elements: int, x: Tensor, *arguments: Any) -> None:
    _, channels, height, width = x.shape
    programs, steps = slabs(x, elements)
    sizes = (_cell_count(x), height, width, channels, steps)
    tile = {"CELLS": tile_cells(channels, elements), "num_warps": WARPS}
    launch_tiles(kernel, programs, x, *arguments, *sizes, **tile)


def _variants(dtype: str, size: int, aligned: bool = True) -> list[Configuration]:
    forward, backward = (pool_kernel, FORWARD), (pool_backward_kernel, BACKWARD)
    rows: list[tuple[str, tuple[Kernel, int], tuple[str, ...], float, int]] = [
        ("forward", forward, ("y",), 1.25, BYTES_ON_THE_WAY),
        ("forward, both results", forward, (), 2.25, ARITHMETIC),
        ("sums", backward, ("by_y", "by_x", "sums", "count"), 1.25, BYTES_ON_THE_WAY),
        ("sums, both results", backward, ("by_x", "sums", "count"), 2.25, ARITHMETIC),
        ("gradient", backward, ("by_y", "parts"), 2.25, ARITHMETIC),
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
