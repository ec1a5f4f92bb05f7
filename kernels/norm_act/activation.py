r"""Batch normalisation and ReLU of channels-last images, each way.

.. math::
    y = \max(0, \gamma \hat x + \beta), \quad \hat x = (x - \mu) / \sigma, \quad
    \sigma^2 = \operatorname{var}(x) + \epsilon

.. math::
    \partial L / \partial x = \frac{\gamma}{\sigma} \Big( z - \operatorname{mean} z
        - \hat x \operatorname{mean}(z \hat x) \Big), \quad
    z = [y > 0]\, \partial L / \partial y, \quad
    \partial L / \partial \beta = \sum z, \quad \partial L / \partial \gamma = \sum z \hat x

The mask [y > 0] is computed again from x: y is not saved. Where the statistics are constants, the
means fall away. Tiles are (pixels, channels); a program handles several, so that what belongs to
the channels is prepared once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.launching import BYTES_ON_THE_WAY, SINGLE_VALUES, Configuration, Kernel, cdiv
from .channels import (
    activation,
    affine,
    by_vectors,
    configuration,
    launch_tiles,
    place,
    put_sums,
    slab_rows,
    spread,
    where_positive,
    widest,
)

if TYPE_CHECKING:
    from torch import Tensor

ELEMENTS = 2048  # of a tile
WARPS = 8
PROGRAMS = 1024  # enough to fill the largest GPU; more only make more partial sums
LONGEST = 64  # tiles that one program adds up in float32


def tile_rows(channels: int, elements: int = ELEMENTS) -> int:
    return elements // widest(channels)


def steps_for(tiles: int, blocks: int) -> int:
    """Tiles of one program, so that about :data:`PROGRAMS` programs share the work."""
    return max(1, min(LONGEST, tiles * blocks // PROGRAMS))


def slabs(rows: int, channels: int) -> tuple[int, int]:
    """How many programs share the rows, and how many tiles each one reads."""
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
    slab, c = place(channels, CHANNELS)
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


@by_vectors("x", "by_y", "by_x", "parts", "mean", "variance", "weight", "bias", "sums")
def backward_kernel(
    x,
    by_y,
    by_x,
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
    """With ``parts`` the two sums, with ``by_x`` the gradient."""
    slab, c = place(channels, CHANNELS)
    center, inverse, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    if sums is not None:
        level, slope = spread(sums, count, inverse, c, channels)
    first, r, left = slab_rows(slab, steps, rows, ROWS)
    begin = first * channels
    lane = r.to(tl.int64) * channels + c
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    product = tl.zeros((ROWS, CHANNELS), tl.float32)
    for i in range(steps):
        inside = (r < left - i * ROWS) & (c < channels)
        values = tl.load(x + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = tl.load(by_y + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = where_positive(dz, values, center, scale, offset)
        if parts is not None:
            total += dz
            product += dz * (values - center)
        if by_x is not None:
            if sums is not None:
                dz -= level + (values - center) * slope
            tl.store(by_x + begin + lane, (scale * dz).to(by_x.dtype.element_ty), mask=inside)
        begin += ROWS * tl.cast(channels, tl.int64)
    if parts is not None:
        put_sums(parts, slab, total, product, c, channels)


def apply(x: Tensor, y: Tensor, *affine: Tensor | float | None) -> None:
    """``affine``: what the kernel takes from ``mean`` to ``eps``."""
    channels = x.shape[1]
    rows = x.numel() // channels
    programs, steps = slabs(rows, channels)
    tile = {"ROWS": tile_rows(channels), "num_warps": WARPS}
    launch_tiles(apply_kernel, programs, x, y, *affine, rows, channels, steps, **tile)


def backward(
    x: Tensor,
    by_y: Tensor,
    by_x: Tensor | None,
    parts: Tensor | None,
    *statistics: Tensor | float | None,
) -> None:
    """Fills ``parts`` (P, 2, C), of as many slabs as :func:`slabs` says, or ``by_x``.

    ``statistics``: what the kernel takes from ``mean`` to ``count``.
    """
    channels = x.shape[1]
    rows = x.numel() // channels
    programs, steps = slabs(rows, channels)
    arguments = (by_y, by_x, parts, *statistics, rows, channels, steps)
    tile = {"ROWS": tile_rows(channels), "num_warps": WARPS}
    launch_tiles(backward_kernel, programs, x, *arguments, **tile)


def _variants(dtype: str, size: int, aligned: bool = True) -> list[Configuration]:
    tile = {"ROWS": tile_rows(64)}
    rows: list[tuple[str, Kernel, tuple[str, ...], int, int]] = [
        ("forward", apply_kernel, (), 2, SINGLE_VALUES),
        ("sums", backward_kernel, ("by_x", "sums", "count"), 2, BYTES_ON_THE_WAY),
        ("gradient", backward_kernel, ("parts",), 3, BYTES_ON_THE_WAY),
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
