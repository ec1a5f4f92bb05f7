"""Plan a fusion within the available memory: which levels are kept, and the height of strips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastmef.errors import InputError
from fastmef.inference.memory import format_memory
from fastmef.nn.multiscale import base_levels, base_size
from fastmef.reference.multiscale import RADIUS
from fastmef.reference.pyramid import halved_size

# Candidates for the finest level that is kept. A coarser choice reduces one more level again in the
# second sweep, with more rows around each strip: 4 % of the time of the fusion.
_KEPT = (1, 2, 3)
# Candidates for the rows of a strip. Taller strips repeat fewer rows around them; shorter ones stay
# in the cache.
_STRIPS = (256, 128, 64, 32)
# Measured: memory of network and descent for each pixel of each exposure of the base, and memory of
# the process that is not counted here.
_BASE_BYTES = 540
_OTHER_BYTES = 90_000_000
# For files: the largest strip of all frames, and the largest pyramid that is kept from a fine level
# on.
_WINDOW_BYTES = 20_000_000
_PYRAMID_BYTES = 100_000_000


@dataclass(frozen=True)
class Bracket:
    """The properties of a bracket that decide how much memory its fusion takes."""

    count: int
    height: int
    width: int
    channels: int
    itemsize: int
    floating: bool = False
    masked: bool = False
    streams: bool = False
    in_memory: bool = False
    resident_bytes: int = 0
    """Memory that sources and sink will allocate in addition to the rows."""

    @property
    def levels(self) -> int:
        return base_levels(self.height, self.width)


@dataclass(frozen=True)
class Plan:
    """How a bracket is fused.

    Attributes:
        kept: the finest level of the pyramid that is kept in memory.
        strip: rows of the frames that are read, and rows of the result that are computed, at a
            time.
        memory: estimate of the bytes that are allocated.
    """

    kept: int
    strip: int
    memory: int


def make_plan(bracket: Bracket, memory: int) -> Plan:
    """Return the fastest plan that allocates at most ``memory`` bytes.

    Raises:
        InputError: no plan does.
    """
    kept = [level for level in _KEPT if level <= max(bracket.levels, 1)]
    strips: Sequence[int] = _STRIPS
    if not bracket.in_memory:
        # Decoding takes most of the time of files, and fine levels would take most of the memory.
        small = [level for level in kept[1:] if _stored(bracket, level) <= _PYRAMID_BYTES]
        kept = small or kept[-1:]
        row = bracket.count * bracket.channels * bracket.itemsize * bracket.width
        strips = [strip for strip in _STRIPS if strip * row <= _WINDOW_BYTES] or _STRIPS[-1:]
    plans = [
        Plan(level, strip, estimate(bracket, level, strip))
        for level, strip in itertools.product(kept, strips)
    ]
    for plan in plans:
        if plan.memory <= memory:
            return plan
    least = min(plan.memory for plan in plans)
    raise InputError(
        f"{bracket.count} images of {bracket.width}×{bracket.height} pixels need"
        f" {format_memory(least)} of memory, {format_memory(memory)} can be used; --memory sets"
        " another limit"
    )


def estimate(bracket: Bracket, kept: int, strip: int) -> int:
    """Return the bytes that a fusion allocates if it keeps the levels from ``kept`` on."""
    levels = bracket.levels
    size = bracket.height, bracket.width
    pixels = [h * w for h, w in (halved_size(size, level) for level in range(levels + 1))]
    values = bracket.count * bracket.channels
    base = bracket.count * math.prod(base_size(*size)) * _BASE_BYTES
    if levels == 0:
        # Three copies of the frames, and in float32 the frames and their enlarged base.
        frames = values * pixels[0] * (3 * bracket.itemsize + 8)
        return base + frames + bracket.resident_bytes
    inner = 4 if bracket.floating else 2
    mask = 4 * bracket.count if bracket.masked else 0
    stored = _stored(bracket, kept)
    held = min(kept + 1, levels)
    stored += 2 * 4 * bracket.channels * pixels[held]  # fused, and its next coarser level
    rows = min(bracket.height, strip + 2 * (RADIUS + 2) * 2**kept)
    row = values * bracket.itemsize + bracket.channels * bracket.itemsize + 2 * mask
    row += values * inner // 2  # the levels that are reduced again, and their fused images
    if bracket.streams:
        row += 2 * values * bracket.itemsize  # the window, and the one before, joined into it
    # The base is fused before the second sweep, which can use the same memory.
    working = max(base, rows * bracket.width * row)
    return stored + working + bracket.resident_bytes + _OTHER_BYTES


def _stored(bracket: Bracket, kept: int) -> int:
    """Return the bytes of the levels of the pyramid from ``kept`` on, and of the base."""
    mask = 4 if bracket.masked else 0
    inner = bracket.channels * (4 if bracket.floating else 2) + mask
    last = bracket.channels * 4 + mask  # the coarsest level is in float32
    size = bracket.height, bracket.width
    sizes = [math.prod(halved_size(size, level)) for level in range(kept, bracket.levels + 1)]
    base = math.prod(base_size(*size))
    return bracket.count * (inner * sum(sizes[:-1]) + last * (sizes[-1] + base))
