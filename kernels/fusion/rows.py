"""Divide the pixels of softmax_fuse among programs, which handle some columns of one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import Layout
from ..common.tiles import locate

if TYPE_CHECKING:
    from torch import Tensor


WARPS = 4


def layouts_of(
    images: tuple[str, ...], layers: tuple[str, ...], addresses: tuple[str, ...]
) -> dict[str, Layout]:
    """Return the layouts of a kernel by name.

    ``images`` have columns, rows and channels, ``layers`` columns and rows; the strides of all are
    named after them. Vectors need rows that begin at multiples of 16.
    """
    both = (*layers, *images)
    columns = tuple(f"{x}_column" for x in both)
    planar = tuple(f"{x}_channel" for x in images)
    interleaved = (*(f"{x}_column" for x in layers), *planar)
    others = tuple(f"{x}_row" for x in both) + tuple(f"{x}_layer" for x in layers)
    vectors = (*addresses, "width", "pixels", *others)
    return {
        "one row, vectors": Layout(("height", *columns), (*vectors, *planar)),
        "rows, vectors": Layout(columns, (*vectors, *planar)),
        "one row": Layout(("height", *columns)),
        "channels last, vectors": Layout(("height", *interleaved), vectors),
        "channels last": Layout(("height", *interleaved)),
        "any strides": Layout(),
    }


def columns_for(count: int) -> int:
    """Return the columns of a program: about 32 weights for each of its 128 threads, not timed."""
    return 1024 if count <= 4 else 512 if count <= 8 else 128


@triton.jit
def locate_pixels(width, height, COLUMNS: tl.constexpr):
    """Return batch, row, first column (int64), lanes, and whether each lane is in the row."""
    b, y, first = locate(tl.program_id(0), width, height, COLUMNS)
    lane = tl.arange(0, COLUMNS).to(tl.int64)
    return b, y, first, lane, lane < width - first


def is_one_row(*images: Tensor | None) -> bool:
    """Return whether every row of each tensor begins where the row before it ends."""
    given = [x for x in images if x is not None]
    return all(x.shape[-2] == 1 or x.stride(-2) == x.shape[-1] * x.stride(-1) for x in given)


def row_size(images: Tensor, one_row: bool) -> tuple[int, int]:
    """Return height and width, with all rows joined to one if ``one_row`` is true."""
    height, width = images.shape[-2:]
    return (1, height * width) if one_row else (height, width)
