r"""Mean and variance of every channel of channels-last images, in one pass.

Every lane subtracts the first value that it reads, so that no precision is lost by cancellation:

.. math::
    d_i = x_i - x_0, \quad \mu = x_0 + \tfrac1n \sum d_i, \quad
    n \sigma^2 = \sum d_i^2 - \tfrac1n \big(\sum d_i\big)^2

Lanes, programs and processes are merged with their counts, in a fixed order (Chan, Golub, LeVeque,
1979):

.. math::
    n = \sum n_p, \quad \mu = \tfrac1n \sum n_p \mu_p, \quad
    n \sigma^2 = \sum n_p \big(\sigma_p^2 + (\mu_p - \mu)^2\big)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import BYTES_IN_FLIGHT, SINGLE_VALUES, Configuration, cdiv, launch
from .activation import WARPS, slabs, tile_rows
from .channels import by_vectors, configuration, launch_tiles, locate_tile, slab_rows

if TYPE_CHECKING:
    from torch import Tensor

PARTS, MERGED = 128, 8  # parts and channels of a tile when statistics are merged


@by_vectors("x", "parts")
def moments_kernel(x, parts, rows, channels, steps, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Compute mean, variance and count of one slab of pixels."""
    slab, c = locate_tile(channels, CHANNELS)
    first, r, left = slab_rows(slab, steps, rows, ROWS)
    at = x + (first + r) * channels + c
    shift = tl.load(at, mask=(r < left) & (c < channels), other=0).to(tl.float32)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    squares = tl.zeros((ROWS, CHANNELS), tl.float32)
    for i in range(1, steps):
        at += ROWS * tl.cast(channels, tl.int64)
        inside = (r < left - i * ROWS) & (c < channels)
        change = tl.load(at, mask=inside, other=0).to(tl.float32) - shift
        change = tl.where(inside, change, 0.0)
        total += change
        squares += change * change
    # Lanes after that of the last row have read one value less, or none.
    count = ((left - r + ROWS - 1) // ROWS).to(tl.float32)
    lane = total / tl.maximum(count, 1.0)
    squares -= total * lane
    lane += shift
    inverse_count = 1.0 / left.to(tl.float32)
    mean = tl.sum(count * lane, axis=0)[None, :] * inverse_count
    # A second step restores the digits of a mean that is large compared with the deviation.
    mean += tl.sum(count * (lane - mean), axis=0)[None, :] * inverse_count
    variance = (
        tl.sum(squares + count * (lane - mean) * (lane - mean), axis=0)[None, :] * inverse_count
    )
    to = parts + slab * 3 * channels + c
    tl.store(to, mean, mask=c < channels)
    to += channels
    tl.store(to, variance, mask=c < channels)
    tl.store(to + channels, tl.zeros_like(mean) + left, mask=c < channels)


@triton.jit
def _part(parts, first, pieces, c, channels, PARTS: tl.constexpr):
    """Load mean, variance and count of PARTS parts from ``first`` on."""
    line = first + tl.arange(0, PARTS)[:, None]
    at = parts + line.to(tl.int64) * 3 * channels + c
    there = (line < pieces) & (c < channels)
    mean = tl.load(at, mask=there, other=0)
    at += channels
    variance = tl.load(at, mask=there, other=0)
    return mean, variance, tl.load(at + channels, mask=there, other=0)


@by_vectors("parts", "merged", "running_mean", "running_variance")
def merge_kernel(
    parts,
    merged,
    running_mean,
    running_variance,
    momentum,
    pieces,
    channels,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Merge the statistics of all parts and update the running statistics."""
    tile, c = locate_tile(channels, CHANNELS)
    known = c < channels
    # The first part's mean is subtracted, so that a large common mean costs no digits.
    center = tl.load(parts + c, mask=c < channels * tl.minimum(pieces, 1), other=0)
    size = tl.zeros((PARTS, CHANNELS), tl.float32)
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    for first in range(0, pieces, PARTS):
        mean, variance, n = _part(parts, first, pieces, c, channels, PARTS)
        size += n
        # A part without values has no mean.
        total += tl.where(n > 0, n * (mean - center), 0.0)
    number = tl.sum(size, axis=0)[None, :]
    inverse_count = 1.0 / tl.maximum(number, 1.0)
    mean = center + tl.sum(total, axis=0)[None, :] * inverse_count
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    for first in range(0, pieces, PARTS):
        one, variance, n = _part(parts, first, pieces, c, channels, PARTS)
        total += tl.where(n > 0, n * (variance + (one - mean) * (one - mean)), 0.0)
    squared_deviations = tl.sum(total, axis=0)[None, :]
    merged += c
    tl.store(merged, mean, mask=known)
    merged += channels
    tl.store(merged, squared_deviations * inverse_count, mask=known)
    tl.store(merged + channels, number, mask=known)
    if running_mean is not None:
        old = tl.load(running_mean + c, mask=known, other=0).to(tl.float32)
        new = (1 - momentum) * old + momentum * mean
        tl.store(running_mean + c, new.to(running_mean.dtype.element_ty), mask=known)
    if running_variance is not None:
        old = tl.load(running_variance + c, mask=known, other=0).to(tl.float32)
        new = (1 - momentum) * old + momentum * (squared_deviations / (number - 1))
        tl.store(running_variance + c, new.to(running_variance.dtype.element_ty), mask=known)


def moments(x: Tensor, parts: Tensor) -> None:
    """Fill ``parts`` ``(P, 3, C)`` with mean, variance and count of each slab."""
    channels = x.shape[1]
    rows = x.numel() // channels
    count, steps = slabs(rows, channels)
    sizes = (rows, channels, steps)
    launch_tiles(moments_kernel, count, WARPS, x, parts, *sizes, ROWS=tile_rows(channels))


def merge(
    parts: Tensor,
    merged: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    momentum: float,
) -> None:
    """Fill ``merged`` ``(3, C)`` and update the running statistics."""
    pieces, _, channels = parts.shape
    launch(
        merge_kernel,
        cdiv(channels, MERGED),
        parts.device,
        parts,
        merged,
        running_mean,
        running_variance,
        momentum,
        pieces,
        channels,
        PARTS=PARTS,
        CHANNELS=MERGED,
        num_warps=4,
    )


def _variant(dtype: str, size: int, aligned: bool = True) -> Configuration:
    """Return a variant of the kernel for one pass."""
    tile = {"ROWS": tile_rows(64)}
    return configuration(
        "one pass", moments_kernel, dtype, tile, size, BYTES_IN_FLIGHT, WARPS, aligned=aligned
    )


CONFIGURATIONS = [
    _variant("bf16", 2),
    _variant("fp32", 4),
    _variant("bf16", 2, aligned=False),
    *(
        merge_kernel.configuration(
            "merging" + (", any number of channels" if layout else ""),
            {
                **dict.fromkeys(("parts", "merged", "running_mean", "running_variance"), "*fp32"),
                "momentum": "fp32",
            },
            {"PARTS": PARTS, "CHANNELS": MERGED},
            layout,
            pixels=PARTS * MERGED,
            bytes_per_pixel=12,
            resident=SINGLE_VALUES,
        )
        for layout in (0, 1)
    ),
]
