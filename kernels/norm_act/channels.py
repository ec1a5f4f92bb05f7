"""Device functions of the normalisation kernels: channels-last images as rows of channels.

A pixel is a row, so a tile is (pixels, channels) with the channels next to one another in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.launching import Configuration, Kernel, Layout, cdiv, compiled_for, launch

if TYPE_CHECKING:
    from torch import Tensor


def by_vectors(*arrays: str) -> Callable[[Callable[..., None]], Kernel]:
    """Compile a kernel for aligned arrays whose channels are whole vectors, and for any others."""
    return compiled_for(Layout(multiples=("channels", *arrays)), Layout())


def widest(channels: int) -> int:
    """Return the channels of a tile: 64 of two bytes are a 128-byte cache line."""
    return min(64, 1 << (channels - 1).bit_length())


def warps_for(vectors: bool, num_warps: int) -> int:
    """Return the warps of a program, which are more if it loads single values.

    Their addresses take registers: with fewer values for each thread nothing spills.
    """
    return num_warps if vectors else 16


def launch_tiles(
    kernel: Kernel, count: int, num_warps: int, x: Tensor, *arguments: Any, **tile: int
) -> None:
    """Launch ``count`` programs for each block of channels of ``x``, the first argument.

    ``tile`` is the name and the size of the tile's pixel axis.
    """
    channels = x.shape[1]
    programs = count * cdiv(channels, widest(channels))
    vectors = kernel.variant_for((x, *arguments)) is kernel.variants[0]
    options = {"CHANNELS": widest(channels), "num_warps": warps_for(vectors, num_warps)}
    launch(kernel, programs, x.device, x, *arguments, **tile, **options)


@triton.jit
def locate_tile(channels, CHANNELS: tl.constexpr):
    """Return the tile (int64) and the channels (1, CHANNELS) of this program."""
    blocks = (channels - 1) // CHANNELS + 1
    program = tl.program_id(0)
    c = (program % blocks) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return (program // blocks).to(tl.int64), c


@triton.jit
def slab_rows(slab, steps, rows, ROWS: tl.constexpr):
    """Return the first row of a slab (int64), the lanes' rows in a tile, and the slab's rows."""
    first = slab * steps * ROWS
    left = tl.minimum(rows - first, steps * ROWS).to(tl.int32)
    return first, tl.arange(0, ROWS)[:, None], left


@triton.jit
def affine(mean, variance, weight, bias, eps, c, channels):
    """Return centre, 1/σ², scale γ/σ and offset β of the channels ``c``, in float32."""
    known = c < channels
    center = tl.load(mean + c, mask=known, other=0).to(tl.float32)
    inverse = tl.rsqrt(tl.load(variance + c, mask=known, other=1).to(tl.float32) + eps)
    scale = inverse
    if weight is not None:
        scale *= tl.load(weight + c, mask=known, other=0).to(tl.float32)
    offset = tl.zeros_like(center)
    if bias is not None:
        offset = tl.load(bias + c, mask=known, other=0).to(tl.float32)
    return center, inverse * inverse, scale, offset


@triton.jit
def activation(x, center, scale, offset):
    """Return ReLU of the normalised ``x``; NaN is kept."""
    y = (x - center) * scale + offset
    return tl.maximum(y, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def where_positive(dy, x, center, scale, offset):
    """Return ``dy`` where the activation is positive or NaN, else 0."""
    return tl.where((x - center) * scale + offset <= 0, 0.0, dy)


@triton.jit
def batchnorm_correction(sums, count, inverse, c, channels):
    """Return mean z and its slope along x - centre, which are subtracted from z.

    They are the gradient through the batch statistics.
    """
    known = c < channels
    inverse_count = 1.0 / tl.load(count)
    level = tl.load(sums + c, mask=known, other=0) * inverse_count
    slope = tl.load(sums + channels + c, mask=known, other=0) * inverse_count * inverse
    return level, slope


@triton.jit
def store_sums(parts, part, dz, product, c, channels):
    """Store sums over the pixels of a tile in row ``part`` of ``(parts, 2, channels)``."""
    to = parts + part * 2 * channels + c
    tl.store(to, tl.sum(dz, axis=0)[None, :], mask=c < channels)
    tl.store(to + channels, tl.sum(product, axis=0)[None, :], mask=c < channels)


def configuration(
    name: str,
    kernel: Kernel,
    dtype: str,
    tile: dict[str, int],
    bytes_per_element: float,
    resident: int,
    num_warps: int,
    absent: Sequence[str] = (),
    aligned: bool = True,
) -> Configuration:
    """Return a variant for 64 channels or more with γ and β in float32.

    ``tile`` holds the name and the size of the tile's pixel axis. A pixel of the table is one
    channel of one pixel before it is pooled or upsampled. If not ``aligned``, the number of
    channels need not be a multiple of a vector's size.
    """
    integers = ("rows", "height", "width", "cells", "steps", "pieces", "channels")
    images = ("x", "y", "pooled", "up", "grad_y", "grad_pooled", "grad_up", "grad_x", "grad_z")
    constants: dict[str, Any] = {**tile, "CHANNELS": 64, **dict.fromkeys(absent)}
    types = {
        **dict.fromkeys(integers, "i32"),
        **dict.fromkeys(images, f"*{dtype}"),
        **dict.fromkeys(("eps", "momentum"), "fp32"),
    }
    (lines,) = tile.values()
    return kernel.configuration(
        f"{name}, {dtype}" + ("" if aligned else ", any number of channels"),
        {x: types.get(x, "*fp32") for x in kernel.arg_names},
        constants,
        0 if aligned else 1,
        pixels=lines * 64,
        bytes_per_pixel=bytes_per_element,
        resident=resident,
        num_warps=warps_for(aligned, num_warps),
    )
