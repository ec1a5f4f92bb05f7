"""Windowed sums for the filters, SSIM and MEF-SSIM, computed by marching down strips.

A program handles 128 columns and some rows of a map, its strip. It reads the rows of the strip from
top to bottom, the horizontal taps as shifted loads that hit the first-level cache, and adds every
filtered row to the windows that contain it: ring[k] = ring[k + 1] + tap[k] * row. So a value is
loaded once for each horizontal tap, the vertical window costs one register for each tap and map,
and threads exchange nothing.

The taps are symmetric, so that the backward pass of a filter is the same march over the derivative
maps, padded with zeros (:mod:`.maps`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import triton
import triton.language as tl

from .launching import cdiv

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4
COLUMNS = 32 * WARPS  # one for each thread: more would multiply the registers of the rings
# Rows of a program, which filters a window of rows more than it owns: the longest strips that still
# make enough programs are taken. Not timed on a GPU.
LEAST_ROWS, MOST_ROWS = 8, 256
# By the columns of a thread: three programs for each of the 132 multiprocessors of an H100, or two
# with twice as much to do at once.
ENOUGH_PROGRAMS = {1: 396, 2: 264}
# The numbers of a thread's rings that leave room for two columns.
MOST_NUMBERS = 110


@triton.jit
def locate_strip(program, height, width, rows, COLUMNS: tl.constexpr, EACH: tl.constexpr = 1):
    """Return what a program owns: plane (int64), first row, row after the last one, columns.

    A thread owns EACH neighbouring columns, of which the first is returned.
    """
    strips = (width - 1) // (EACH * COLUMNS) + 1
    blocks = (height - 1) // rows + 1
    column = program % strips * (EACH * COLUMNS) + EACH * tl.arange(0, COLUMNS)
    first = program // strips % blocks * rows
    plane = (program // (strips * blocks)).to(tl.int64)
    return plane, first, tl.minimum(first + rows, height), column


@triton.jit
def row_at(pointer, row, column, row_stride, column_stride):
    """Return pointers to the columns of one row of a plane; offsets in int64."""
    return pointer + tl.cast(row, tl.int64) * row_stride + tl.cast(column, tl.int64) * column_stride


@triton.jit
def present_width(row, height, width, PADDED: tl.constexpr):
    """Return how many columns :func:`load_tap` may read: 0 for a row outside the plane."""
    if PADDED:
        row = tl.cast(row, tl.int32)  # in the interpreter a loop variable is a Python integer
        return tl.where((row >= 0) & (row < height), width, 0)
    return width


@triton.jit
def load_tap(pointer, offset: tl.constexpr, column, width, column_stride, PADDED: tl.constexpr):
    """Load the values ``offset`` columns to the right as float32; if ``PADDED``, 0 outside."""
    at = pointer + offset * tl.cast(column_stride, tl.int64)
    if PADDED:
        x = column + offset
        return tl.load(at, mask=(x >= 0) & (x < width), other=0).to(tl.float32)
    return tl.load(at).to(tl.float32)


@triton.jit
def zero_rows(COUNT: tl.constexpr, COLUMNS: tl.constexpr):
    """Return COUNT rows of zeros, one register each."""
    rows = ()
    for _ in tl.static_range(COUNT):
        rows = rows + (tl.zeros((COLUMNS,), tl.float32),)
    return rows


@triton.jit
def push(ring, rows, TAPS: tl.constexpr):
    """Add a filtered row of every map to the windows that contain it, and return the new ring.

    Map m has ``len(TAPS)`` entries of ``ring``; the first of them is now the finished window that
    ends with this row.
    """
    size: tl.constexpr = len(TAPS)
    pushed = ()
    for m in tl.static_range(len(rows)):
        for k in tl.static_range(size - 1):
            pushed = pushed + (ring[m * size + k + 1] + TAPS[k] * rows[m],)
        pushed = pushed + (TAPS[size - 1] * rows[m],)
    return pushed


@triton.jit
def finite_or_zero(x):
    """Return the constant to subtract, or 0 if it is not finite and would make all windows NaN."""
    return tl.where(tl.abs(x) < float("inf"), x, 0.0)


@triton.jit
def plane_constant(pointer, height, width, row_stride, column_stride):
    """Return a typical value of a plane: the mean of 8×16 of its pixels.

    It is subtracted before moments are formed, because E[x²] - E[x]² loses precision by
    cancellation in bright flat areas. Any constant near the values will do; this one needs no pass
    over the image.
    """
    number = tl.arange(0, 128)
    row = 2 * (number // 16) + 1
    column = 2 * (number % 16) + 1
    # (row * height) // 16, with quotient and remainder apart so that products stay small.
    row = row * (height // 16) + row * (height % 16) // 16
    column = column * (width // 32) + column * (width % 32) // 32
    values = tl.load(row_at(pointer, row, column, row_stride, column_stride)).to(tl.float32)
    return finite_or_zero(tl.sum(values, axis=0) * 0.0078125)


Taps: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]


class Windows(NamedTuple):
    """The windows over ``(N, H, W)`` planes and the size of the map of their results."""

    taps_y: tuple[float, ...]
    taps_x: tuple[float, ...]
    padded: bool
    map_height: int
    map_width: int

    @property
    def constants(self) -> dict[str, Any]:
        """The constants of every kernel that marches down strips."""
        return {
            "TAPS_Y": self.taps_y,
            "TAPS_X": self.taps_x,
            "COLUMNS": COLUMNS,
            "num_warps": WARPS,
        }


def windows_of(images: Tensor, taps: Taps, padded: bool) -> Windows:
    """Return the windows over ``(..., H, W)`` with ``taps`` along the height and the width."""
    height, width = images.shape[-2:]
    y, x = taps
    if padded:
        return Windows(y, x, padded, height, width)
    return Windows(y, x, padded, height - len(y) + 1, width - len(x) + 1)


def columns_each(taps: tuple[float, ...], maps: int) -> int:
    """Return how many neighbouring columns a thread owns: they share what they load.

    Two, if the rings of both fit into its registers; ``taps`` are those along the height.
    """
    return 2 if 2 * maps * len(taps) <= MOST_NUMBERS else 1


def strip_rows(planes: int, height: int, width: int, each: int = 1) -> int:
    """Return the rows of a strip. They depend on the shape only, so the order of sums is fixed."""
    strips = strip_programs(planes, 1, width, 1, each)
    rows = height // cdiv(ENOUGH_PROGRAMS[each], max(1, strips))
    return max(LEAST_ROWS, min(MOST_ROWS, rows))


def strip_programs(planes: int, height: int, width: int, rows: int, each: int = 1) -> int:
    """Return the number of programs that march down strips of ``rows`` rows."""
    return planes * cdiv(height, rows) * cdiv(width, each * COLUMNS)


def single(like: Tensor, *shape: int) -> Tensor:
    """Allocate float32 on the device of ``like``, whose dtype may be half precision."""
    import torch

    return like.new_empty(shape, dtype=torch.float32)
