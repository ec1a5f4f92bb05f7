"""The strip march: windowed sums of any values, one row after the other.

A program owns some columns and marches down the rows. The taps along a row are loads at shifted
addresses, which the first-level cache serves. Down the columns every row is pushed into a ring of
partial sums, one for each window it takes part in. Triton can neither shift a block nor index one,
so the ring is a tuple of blocks and lives in registers; an entry moves on as the accumulator of the
multiply-add that extends it, which costs nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def empty_rings(COUNT: tl.constexpr, TAPS: tl.constexpr, COLUMNS: tl.constexpr):
    """COUNT rings of zeros."""
    return ((tl.zeros([COLUMNS], tl.float32),) * len(TAPS),) * COUNT


@triton.jit
def push(rings, row, TAPS: tl.constexpr):
    """Adds a row of values; entry 0 of a ring is then the window that ends with it.

    Taps are symmetric: whether they are counted from the first row or the last is all one.
    """
    out = ()
    for m in tl.static_range(len(rings)):
        ring = ()
        for j in tl.static_range(1, len(TAPS)):
            ring = ring + (rings[m][j] + TAPS[j - 1] * row[m],)
        out = out + (ring + (TAPS[len(TAPS) - 1] * row[m],),)
    return out
