"""Device functions of the normalisation kernels: channels-last images as rows of channels.

A pixel is a row, so a tile is (pixels, channels) with the channels next to one another in memory.
"""

from __future__ import annotations

import triton
import triton.language as tl


def widest(channels: int) -> int:
    """Channels of a tile: 64 of two bytes are a 128-byte line."""
    return min(64, 1 << (channels - 1).bit_length())


@triton.jit
def place(channels, CHANNELS: tl.constexpr):
    """The tile (int64) and the channels (1, CHANNELS) of this program."""
    blocks = (channels - 1) // CHANNELS + 1
    program = tl.program_id(0)
    c = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return (program // blocks).to(tl.int64), c


@triton.jit
def affine(mean, variance, weight, bias, eps, c, channels):
    """Centre, 1/σ², scale γ/σ and offset β of the channels ``c``, in float32."""
    known = c < channels
    center = tl.load(mean + c, mask=known, other=0).to(tl.float32)
    power = tl.load(variance + c, mask=known, other=1).to(tl.float32) + eps.to(tl.float32)
    scale = tl.div_rn(1.0, tl.sqrt_rn(power))
    if weight is not None:
        scale *= tl.load(weight + c, mask=known, other=0).to(tl.float32)
    offset = tl.zeros_like(center)
    if bias is not None:
        offset = tl.load(bias + c, mask=known, other=0).to(tl.float32)
    return center, 1.0 / power, scale, offset


@triton.jit
def activation(x, center, scale, offset, dtype: tl.constexpr):
    """ReLU of the normalised ``x``, float32 values of ``dtype``; NaN stays NaN."""
    y = ((x - center) * scale + offset).to(dtype).to(tl.float32)
    return tl.where(y < 0, 0.0, y)


@triton.jit
def spread(sums, count, inverse, c, channels):
    """What the statistics' own gradient takes from every dz: a mean, and a slope by x - centre."""
    known = c < channels
    share = tl.div_rn(1.0, tl.load(count).to(tl.float32))
    mean = tl.load(sums + c, mask=known, other=0) * share
    slope = tl.load(sums + channels + c, mask=known, other=0) * share * inverse
    return mean, slope


@triton.jit
def put_sums(parts, part, dz, product, c, channels):
    """Sums over the pixels of a tile, into line ``part`` of ``(parts, 2, channels)``."""
    to = parts + part * 2 * channels + c
    tl.store(to, tl.sum(dz, axis=0)[None, :], mask=c < channels)
    tl.store(to + channels, tl.sum(product, axis=0)[None, :], mask=c < channels)
