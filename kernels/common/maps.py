"""Derivative maps: float32 values that a first pass writes at every window and a second filters.

A map is padded with zeros, so that the second pass can load all windows that cover a pixel without
masks or branches. Maps are interleaved in groups of four, so that one access moves four values;
the remaining maps form a group of two, a group of one, or both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import triton
import triton.language as tl

from .windows import Windows, single, zero_rows

if TYPE_CHECKING:
    from torch import Tensor


class Margins(NamedTuple):
    """The rows of zeros above and below a map, and the columns of zeros left and right of it."""

    MARGIN_Y: int
    MARGIN_X: int


def margins(windows: Windows) -> Margins:
    """Return the margins. They are at least 1, for the 3×3 windows of the Sobel magnitude."""
    sizes = len(windows.taps_y), len(windows.taps_x)
    return Margins(*(n // 2 if windows.padded else max(n - 1, 1) for n in sizes))


def new_maps(like: Tensor, planes: int, count: int, windows: Windows) -> Tensor:
    """Return ``count`` uninitialised maps of every plane."""
    y, x = margins(windows)
    return single(like, count, planes, windows.map_height + 2 * y, windows.map_width + 2 * x)


@triton.jit
def map_offset(plane, y, x, height, width, MARGIN_Y: tl.constexpr, MARGIN_X: tl.constexpr):
    """Return the position in a map (int64) of column x of row y; ``plane`` is int64."""
    row = plane * (height + 2 * MARGIN_Y) + (y + MARGIN_Y)
    return row * (width + 2 * MARGIN_X) + (x + MARGIN_X)


@triton.jit
def map_area(planes, height, width, MARGIN_Y: tl.constexpr, MARGIN_X: tl.constexpr):
    """Return the number of values in one map of all planes, in int64."""
    rows = tl.cast(planes, tl.int64) * (height + 2 * MARGIN_Y)
    return rows * (width + 2 * MARGIN_X)


@triton.jit
def load_group(pointers, COUNT: tl.constexpr, inside=None):
    """Load the COUNT (1, 2 or 4) interleaved values at each address."""
    COLUMNS: tl.constexpr = pointers.shape[0]
    if COUNT == 1:
        return (tl.load(pointers, mask=inside),)
    else:
        at = pointers[:, None] + tl.arange(0, COUNT)[None, :]
        group = tl.load(at, mask=None if inside is None else inside[:, None])
        if COUNT == 2:
            return tl.split(group)
        else:
            even, odd = tl.split(tl.reshape(group, [COLUMNS, 2, 2]))
            first, third = tl.split(even)
            second, fourth = tl.split(odd)
            return first, second, third, fourth


@triton.jit
def _store_group(pointers, values, inside):
    """Store 1, 2 or 4 interleaved values at each address."""
    COUNT: tl.constexpr = len(values)
    COLUMNS: tl.constexpr = pointers.shape[0]
    if COUNT == 1:
        tl.store(pointers, values[0], mask=inside)
    else:
        if COUNT == 2:
            group = tl.join(values[0], values[1])
        else:
            group = tl.join(tl.join(values[0], values[2]), tl.join(values[1], values[3]))
            group = tl.reshape(group, [COLUMNS, COUNT])
        at = pointers[:, None] + tl.arange(0, COUNT)[None, :]
        tl.store(at, group, mask=inside[:, None])


@triton.jit
def filter_maps(maps, at, area, COUNT: tl.constexpr, TAPS: tl.constexpr):
    """Load one row of COUNT maps, filtered along the row.

    ``at`` is the :func:`map_offset` of the first tap, ``area`` is the :func:`map_area`.
    """
    fours: tl.constexpr = COUNT // 4
    filtered = ()
    for i in tl.static_range(fours):
        filtered = filtered + _filter_group(maps + 4 * i * area, at, 4, TAPS)
    if COUNT % 4 >= 2:
        filtered = filtered + _filter_group(maps + 4 * fours * area, at, 2, TAPS)
    if COUNT % 2 == 1:
        filtered = filtered + _filter_group(maps + (COUNT - 1) * area, at, 1, TAPS)
    return filtered


@triton.jit
def _filter_group(maps, at, COUNT: tl.constexpr, TAPS: tl.constexpr):
    """Load one row of a group of COUNT interleaved maps, filtered along the row."""
    pointers = maps + COUNT * at
    values = load_group(pointers, COUNT)
    totals = ()
    for m in tl.static_range(COUNT):
        totals = totals + (TAPS[0] * values[m],)
    for j in tl.static_range(1, len(TAPS)):
        values = load_group(pointers + COUNT * j, COUNT)
        added = ()
        for m in tl.static_range(COUNT):
            added = added + (totals[m] + TAPS[j] * values[m],)
        totals = added
    return totals


@triton.jit
def filter_pair(maps, at, inside, COUNT: tl.constexpr, TAPS: tl.constexpr):
    """Load one row of COUNT interleaved maps, filtered at two neighbouring columns.

    ``at`` is the :func:`map_offset` of the first tap of the first column. The second one exists
    where it is ``inside``. All but one load count for both.
    """
    pointers = maps + COUNT * at
    size: tl.constexpr = len(TAPS)
    values = load_group(pointers, COUNT)
    first = ()
    for m in tl.static_range(COUNT):
        first = first + (TAPS[0] * values[m],)
    second = zero_rows(COUNT, pointers.shape[0])
    for j in tl.static_range(1, size):
        values = load_group(pointers + COUNT * j, COUNT)
        more_first = ()
        more_second = ()
        for m in tl.static_range(COUNT):
            more_first = more_first + (first[m] + TAPS[j] * values[m],)
            more_second = more_second + (second[m] + TAPS[j - 1] * values[m],)
        first = more_first
        second = more_second
    values = load_group(pointers + COUNT * size, COUNT, inside)
    for m in tl.static_range(COUNT):
        first = first + (second[m] + TAPS[size - 1] * values[m],)
    return first


@triton.jit
def store_maps(maps, at, area, values, inside):
    """Store a row of every map; ``at`` and ``area`` are those of :func:`filter_maps`."""
    COUNT: tl.constexpr = len(values)
    fours: tl.constexpr = COUNT // 4
    for i in tl.static_range(fours):
        _store_group(maps + 4 * i * area + 4 * at, values[4 * i : 4 * i + 4], inside)
    if COUNT % 4 >= 2:
        two = values[4 * fours : 4 * fours + 2]
        _store_group(maps + 4 * fours * area + 2 * at, two, inside)
    if COUNT % 2 == 1:
        _store_group(maps + (COUNT - 1) * area + at, values[COUNT - 1 : COUNT], inside)


@triton.jit
def clear_margins(
    maps,
    area,
    plane,
    first,
    end,
    column,
    height,
    width,
    COUNT: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    EACH: tl.constexpr = 1,
):
    """Write the zeros around COUNT maps next to the rows ``first`` to ``end`` of a program.

    ``column``, EACH: as :func:`.windows.locate_strip` has them.
    """
    first_column = tl.min(column, axis=0)
    lane = (column - first_column) // EACH
    COLUMNS: tl.constexpr = column.shape[0]
    zeros = zero_rows(COUNT, COLUMNS)
    begin = tl.where(first == 0, -MARGIN_Y, first)
    stop = tl.where(end == height, height + MARGIN_Y, end)
    # Beside the strip, corners too: as many rows at once as there are lanes for.
    tl.static_assert(MARGIN_X <= COLUMNS)
    at_once: tl.constexpr = COLUMNS // max(MARGIN_X, 1)
    for side in tl.static_range(2 if MARGIN_X > 0 else 0):
        x = width if side else -MARGIN_X
        if (first_column + EACH * COLUMNS >= width) if side else (first_column == 0):
            for row in range(begin, stop, at_once):
                y = tl.cast(row, tl.int32) + lane // MARGIN_X
                at = map_offset(plane, y, x + lane % MARGIN_X, height, width, MARGIN_Y, MARGIN_X)
                inside = (lane < at_once * MARGIN_X) & (y < stop)
                store_maps(maps, at, area, zeros, inside)
    # Above and below.
    for row in range(begin, first):
        y = tl.cast(row, tl.int32)  # a loop of the interpreter counts in plain numbers
        at = map_offset(plane, y, column, height, width, MARGIN_Y, MARGIN_X)
        for c in tl.static_range(EACH):
            store_maps(maps, at + c, area, zeros, column + c < width)
    for row in range(end, stop):
        y = tl.cast(row, tl.int32)
        at = map_offset(plane, y, column, height, width, MARGIN_Y, MARGIN_X)
        for c in tl.static_range(EACH):
            store_maps(maps, at + c, area, zeros, column + c < width)
