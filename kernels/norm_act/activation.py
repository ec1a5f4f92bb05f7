r"""Batch normalisation and ReLU of channels-last images, forward and backward.

.. math::
    y = \max(0, \gamma \hat x + \beta), \quad \hat x = (x - \mu) / \sigma, \quad
    \sigma^2 = \operatorname{var}(x) + \epsilon

.. math::
    \partial L / \partial x = \frac{\gamma}{\sigma} \Big( z - \operatorname{mean} z
        - \hat x \operatorname{mean}(z \hat x) \Big), \quad
    z = [y > 0]\, \partial L / \partial y, \quad
    \partial L / \partial \beta = \sum z, \quad \partial L / \partial \gamma = \sum z \hat x

The mask [y > 0] is recomputed from x, so that y is not saved. If the statistics are constants, the
two means are absent. Tiles are (pixels, channels); a program handles several tiles, so that it
loads the parameters of the channels once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.launching import BYTES_IN_FLIGHT, SINGLE_VALUES, Configuration, Kernel, cdiv
from .channels import (
    activation,
    affine,
    batchnorm_correction,
    by_vectors,
    configuration,
    launch_tiles,
    locate_tile,
    slab_rows,
    store_sums,
    where_positive,
    widest,
)

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 2048  # values in a tile
WARPS = 8
PROGRAMS = 1024  # enough to fill the largest GPU; more programs only make more partial sums
LONGEST = 64  # the most tiles that one program adds up in float32


def tile_rows(channels: int, elements: int = ELEMENTS) -> int:
    """Return the pixels of a tile."""
    return elements // widest(channels)


def steps_for(tiles: int, blocks: int) -> int:
    """Return the tiles of one program, so that about :data:`PROGRAMS` programs run."""
    return max(1, min(LONGEST, tiles * blocks // PROGRAMS))


def slabs(rows: int, channels: int) -> tuple[int, int]:
    """Return the number of slabs (one for each program), and the tiles in each."""
    tiles = cdiv(rows, tile_rows(channels))
    steps = steps_for(tiles, cdiv(channels, widest(channels)))
    return cdiv(tiles, steps), steps


@by_vectors("x", "y", "mean", "variance", "weight", "bias")
def apply_kernel(
    x,
    y,
    mean,
    variance,
    weight,
    bias,
    eps,
    rows,
    channels,
    steps,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute y for one slab of pixels."""
    slab, c = locate_tile(channels, CHANNELS)
    center, _, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    first, r, left = slab_rows(slab, steps, rows, ROWS)
    begin = first * channels
    lane = r.to(tl.int64) * channels + c
    for i in range(steps):
        inside = (r < left - i * ROWS) & (c < channels)
        values = tl.load(x + begin + lane, mask=inside, other=0).to(tl.float32)
        values = activation(values, center, scale, offset)
        tl.store(y + begin + lane, values.to(y.dtype.element_ty), mask=inside)
        begin += ROWS * tl.cast(channels, tl.int64)


@by_vectors("x", "grad_y", "grad_x", "parts", "mean", "variance", "weight", "bias", "sums")
def backward_kernel(
    x,
    grad_y,
    grad_x,
    parts,
    mean,
    variance,
    weight,
    bias,
    eps,
    sums,
    count,
    rows,
    channels,
    steps,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Fill ``parts`` with the two sums, or ``grad_x`` with the gradient."""
    slab, c = locate_tile(channels, CHANNELS)
    center, inverse, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    if sums is not None:
        level, slope = batchnorm_correction(sums, count, inverse, c, channels)
    first, r, left = slab_rows(slab, steps, rows, ROWS)
    begin = first * channels
    lane = r.to(tl.int64) * channels + c
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    product = tl.zeros((ROWS, CHANNELS), tl.float32)
    for i in range(steps):
        inside = (r < left - i * ROWS) & (c < channels)
        values = tl.load(x + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = tl.load(grad_y + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = where_positive(dz, values, center, scale, offset)
        if parts is not None:
            total += dz
            product += dz * (values - center)
        if grad_x is not None:
            if sums is not None:
                dz -= level + (values - center) * slope
            tl.store(grad_x + begin + lane, (scale * dz).to(grad_x.dtype.element_ty), mask=inside)
        begin += ROWS * tl.cast(channels, tl.int64)
    if parts is not None:
        store_sums(parts, slab, total, product, c, channels)


def apply(x: Tensor, y: Tensor, *affine: Tensor | float | None) -> None:
    """Fill ``y``. ``affine`` are the arguments of the kernel from ``mean`` to ``eps``."""
    channels = x.shape[1]
    rows = x.numel() // channels
    programs, steps = slabs(rows, channels)
    arguments = (x, y, *affine, rows, channels, steps)
    launch_tiles(apply_kernel, programs, WARPS, *arguments, ROWS=tile_rows(channels))


def backward(
    x: Tensor,
    grad_y: Tensor,
    grad_x: Tensor | None,
    parts: Tensor | None,
    *statistics: Tensor | float | None,
) -> None:
    """Fill ``parts`` ``(P, 2, C)`` for the P slabs of :func:`slabs`, or ``grad_x``.

    ``statistics`` are the arguments of the kernel from ``mean`` to ``count``.
    """
    channels = x.shape[1]
    rows = x.numel() // channels
    programs, steps = slabs(rows, channels)
    arguments = (grad_y, grad_x, parts, *statistics, rows, channels, steps)
    launch_tiles(backward_kernel, programs, WARPS, x, *arguments, ROWS=tile_rows(channels))


def _variants(dtype: str, size: int, aligned: bool = True) -> list[Configuration]:
    """Return the variants of the forward pass, the sums and the gradient."""
    tile = {"ROWS": tile_rows(64)}
    rows: list[tuple[str, Kernel, tuple[str, ...], int, int]] = [
        ("forward", apply_kernel, (), 2, SINGLE_VALUES),
        ("sums", backward_kernel, ("grad_x", "sums", "count"), 2, BYTES_IN_FLIGHT),
        ("gradient", backward_kernel, ("parts",), 3, BYTES_IN_FLIGHT),
    ]
    return [
        configuration(name, kernel, dtype, tile, floor * size, resident, WARPS, absent, aligned)
        for name, kernel, absent, floor, resident in rows
    ]


CONFIGURATIONS = [
    *_variants("bf16", 2),
    *_variants("fp32", 4),
    *_variants("bf16", 2, aligned=False),
]
