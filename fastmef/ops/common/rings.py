"""Which windows the Triton kernels take: those whose rings fit into the registers of a thread.

A kernel that marches down a strip holds a number for each map and row of the window. Beyond the
registers these numbers spill to memory, and compile time grows with the window's area.
"""

from __future__ import annotations

from torch import Tensor

from fastmef.reference.filters import effective_window

MOST_NUMBERS = 110
"""The numbers of a thread's rings that every kernel was compiled with, without a spill."""

WINDOW = 11
"""The default window, and the largest one that is taken however many exposures there are.

What spills there is still one pass over memory, instead of some for each tap.
"""


def largest_window(maps: int) -> int:
    """Return the largest odd window that kernels take whose threads hold this many maps."""
    return max(WINDOW, (MOST_NUMBERS // maps - 1) | 1)


def rings_fit(images: Tensor, window: int, maps: int) -> bool:
    """Return whether such kernels take a window, as it is cut to the size of ``(..., H, W)``."""
    return max(effective_window(window, n) for n in images.shape[-2:]) <= largest_window(maps)
