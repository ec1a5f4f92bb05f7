"""Device functions of several kernels: the tile of a program, and conversion to storage types."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def locate(program, width, height, BLOCK: tl.constexpr):
    """Return (plane, row, first column) in int64; a program handles BLOCK columns of one row."""
    blocks = (width - 1) // BLOCK + 1
    row = program // blocks
    first = (program % blocks).to(tl.int64) * BLOCK
    return (row // height).to(tl.int64), (row % height).to(tl.int64), first


@triton.jit
def stored(x, dtype: tl.constexpr):
    """Convert float32 to a storage type. Integers are rounded to nearest even, NaN becomes 0."""
    if dtype == tl.uint8 or dtype == tl.uint16:
        highest: tl.constexpr = 255.0 if dtype == tl.uint8 else 65535.0
        # A comparison with NaN is false.
        x = tl.where(x > 0, x, 0.0)
        x = tl.where(x < highest, x, highest)
        # Adding 2^23 rounds to an integer: larger floats have no fraction.
        x = ((x + 8388608.0) - 8388608.0).to(tl.int32)
    return x.to(dtype)
