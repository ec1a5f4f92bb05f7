r"""Batch normalisation and ReLU of channels-last images, each way.

.. math::
    y = \max(0, \gamma \hat x + \beta), \quad \hat x = (x - \mu) / \sigma, \quad
    \sigma^2 = \operatorname{var}(x) + \epsilon

.. math::
    \partial L / \partial x = \frac{\gamma}{\sigma} \Big( z - \operatorname{mean} z
        - \hat x \operatorname{mean}(z \hat x) \Big), \quad
    z = [y > 0]\, \partial L / \partial y, \quad
    \partial L / \partial \beta = \sum z, \quad \partial L / \partial \gamma = \sum z \hat x

Statistics are made in one pass: every lane subtracts the first value it meets, so that nothing
cancels, and lanes and programs are merged with their counts in a fixed order. The mask [y > 0] is
computed again from x: y is not saved. Where statistics are constants, the means fall away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ._channels import activation, affine, place, put_sums, spread, widest
from ._launch import cdiv, launch

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


@triton.jit(do_not_specialize=["rows", "steps"])
def moments_kernel(x, parts, rows, channels, steps, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    slab, c = place(channels, CHANNELS)
    r = tl.arange(0, ROWS)[:, None]
    first = slab * steps * ROWS
    left = tl.minimum(rows - first, steps * ROWS).to(tl.int32)
    at = x + first * channels + r * channels + c
    shift = tl.load(at, mask=(r < left) & (c < channels), other=0).to(tl.float32)
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    power = tl.zeros((ROWS, CHANNELS), tl.float32)
    for i in range(1, steps):
        at += ROWS * channels
        inside = (r < left - i * ROWS) & (c < channels)
        change = tl.load(at, mask=inside, other=0).to(tl.float32) - shift
        change = tl.where(inside, change, 0.0)
        total += change
        power += change * change
    # Lanes to the right of the last row have read one value less, or none.
    count = ((left - r + ROWS - 1) // ROWS).to(tl.float32)
    lane = total / tl.maximum(count, 1.0)
    power -= total * lane
    lane += shift
    share = 1.0 / left.to(tl.float32)
    mean = tl.sum(count * lane, axis=0)[None, :] * share
    variance = tl.sum(power + count * (lane - mean) * (lane - mean), axis=0)[None, :] * share
    to = parts + slab * 3 * channels + c
    tl.store(to, mean, mask=c < channels)
    tl.store(to + channels, variance, mask=c < channels)
    tl.store(to + 2 * channels, tl.zeros_like(mean) + left, mask=c < channels)


@triton.jit
def _part(parts, first, count, c, channels, PARTS: tl.constexpr):
    line = first + tl.arange(0, PARTS)[:, None]
    at = parts + line.to(tl.int64) * 3 * channels + c
    there = (line < count) & (c < channels)
    mean = tl.load(at, mask=there, other=0)
    variance = tl.load(at + channels, mask=there, other=0)
    return mean, variance, tl.load(at + 2 * channels, mask=there, other=0)


@triton.jit(do_not_specialize=["count"])
def merge_kernel(
    parts,
    merged,
    running_mean,
    running_variance,
    momentum,
    count,
    channels,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    _, c = place(channels, CHANNELS)
    known = c < channels
    # Around the first part's mean, so that a large common mean costs no digits.
    center = tl.load(parts + c, mask=known & (count > 0), other=0)
    size = tl.zeros((PARTS, CHANNELS), tl.float32)
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    for first in range(0, count, PARTS):
        mean, _, n = _part(parts, first, count, c, channels, PARTS)
        size += n
        # A part without values has no mean.
        total += tl.where(n > 0, n * (mean - center), 0.0)
    number = tl.sum(size, axis=0)[None, :]
    share = 1.0 / tl.maximum(number, 1.0)
    mean = center + tl.sum(total, axis=0)[None, :] * share
    total = tl.zeros((PARTS, CHANNELS), tl.float32)
    for first in range(0, count, PARTS):
        one, variance, n = _part(parts, first, count, c, channels, PARTS)
        total += tl.where(n > 0, n * (variance + (one - mean) * (one - mean)), 0.0)
    power = tl.sum(total, axis=0)[None, :]
    tl.store(merged + c, mean, mask=known)
    tl.store(merged + channels + c, power * share, mask=known)
    tl.store(merged + 2 * channels + c, number, mask=known)
    momentum = momentum.to(tl.float32)
    if running_mean is not None:
        old = tl.load(running_mean + c, mask=known, other=0).to(tl.float32)
        new = (1 - momentum) * old + momentum * mean
        tl.store(running_mean + c, new.to(running_mean.dtype.element_ty), mask=known)
    if running_variance is not None:
        old = tl.load(running_variance + c, mask=known, other=0).to(tl.float32)
        new = (1 - momentum) * old + momentum * (power / (number - 1))
        tl.store(running_variance + c, new.to(running_variance.dtype.element_ty), mask=known)


@triton.jit(do_not_specialize=["rows"])
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
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    tile, c = place(channels, CHANNELS)
    center, _, scale, offset = affine(mean, variance, weight, bias, eps, c, channels)
    r = tl.arange(0, ROWS)[:, None]
    first = tile * ROWS
    inside = (r < tl.minimum(rows - first, ROWS).to(tl.int32)) & (c < channels)
    lane = r * channels + c
    values = tl.load(x + first * channels + lane, mask=inside, other=0).to(tl.float32)
    dtype: tl.constexpr = y.dtype.element_ty
    values = activation(values, center, scale, offset, dtype)
    tl.store(y + first * channels + lane, values.to(dtype), mask=inside)


@triton.jit(do_not_specialize=["rows", "steps"])
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
    r = tl.arange(0, ROWS)[:, None]
    first = slab * steps * ROWS
    left = tl.minimum(rows - first, steps * ROWS).to(tl.int32)
    begin = first * channels
    lane = r * channels + c
    dtype: tl.constexpr = x.dtype.element_ty
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    product = tl.zeros((ROWS, CHANNELS), tl.float32)
    for i in range(steps):
        inside = (r < left - i * ROWS) & (c < channels)
        values = tl.load(x + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = tl.load(by_y + begin + lane, mask=inside, other=0).to(tl.float32)
        dz = tl.where(activation(values, center, scale, offset, dtype) <= 0, 0.0, dz)
        if parts is not None:
            total += dz
            product += tl.where(inside, dz * (values - center), 0.0)
        if by_x is not None:
            if sums is not None:
                dz -= level + (values - center) * slope
            tl.store(by_x + begin + lane, (scale * dz).to(dtype), mask=inside)
        begin += ROWS * channels
    if parts is not None:
        put_sums(parts, slab, total, product, c, channels)


def moments(x: Tensor, parts: Tensor) -> None:
    """Fills ``parts`` (P, 3, C): mean, variance and count of each slab."""
    channels = x.shape[1]
    rows = x.numel() // channels
    count, steps = slabs(rows, channels)
    launch(
        moments_kernel,
        count * cdiv(channels, widest(channels)),
        x.device,
        x,
        parts,
        rows,
        channels,
        steps,
        ROWS=tile_rows(channels),
        CHANNELS=widest(channels),
        num_warps=WARPS,
    )


def merge(
    parts: Tensor,
    merged: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    momentum: float,
) -> None:
    """Fills ``merged`` (3, C) and moves the running statistics."""
    count, _, channels = parts.shape
    launch(
        merge_kernel,
        cdiv(channels, 8),
        parts.device,
        parts,
        merged,
        running_mean,
        running_variance,
        momentum,
        count,
        channels,
        PARTS=128,
        CHANNELS=8,
        num_warps=4,
    )


def apply(
    x: Tensor,
    y: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> None:
    channels = x.shape[1]
    rows, block = x.numel() // channels, tile_rows(channels)
    launch(
        apply_kernel,
        cdiv(rows, block) * cdiv(channels, widest(channels)),
        x.device,
        x,
        y,
        mean,
        variance,
        weight,
        bias,
        eps,
        rows,
        channels,
        ROWS=block,
        CHANNELS=widest(channels),
        num_warps=WARPS,
    )


def backward(
    x: Tensor,
    by_y: Tensor,
    by_x: Tensor | None,
    parts: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    sums: Tensor | None,
    count: Tensor | None,
) -> None:
    """Fills ``parts`` (P, 2, C), of as many slabs as :func:`slabs` says, or ``by_x``."""
    channels = x.shape[1]
    rows, block = x.numel() // channels, tile_rows(channels)
    if parts is not None:
        programs, steps = slabs(rows, channels)
    else:
        programs, steps = cdiv(rows, block), 1
    launch(
        backward_kernel,
        programs * cdiv(channels, widest(channels)),
        x.device,
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
        ROWS=block,
        CHANNELS=widest(channels),
        num_warps=WARPS,
    )
