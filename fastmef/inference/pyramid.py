"""The first sweep over the frames reduces strips of rows to the levels that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastmef.inference.frames import Frames, empty_in_large_pages
from fastmef.ops import multiscale
from fastmef.reference.multiscale import effective_validity, reduced_dtype, working_dtype
from fastmef.reference.pyramid import halved_size


@dataclass
class KeptPyramid:
    """The levels ``first`` to ``last`` of the Gaussian pyramid of K frames; level 0 is full size.

    Attributes:
        stacks: ``(1, K, C, h, w)`` for each level, finest first; the last one is the base.
        validity: the share of valid pixels, ``(1, K, h, w)`` for each level; empty if all pixels
            are valid.
    """

    first: int
    stacks: list[Tensor]
    validity: list[Tensor]

    @property
    def base(self) -> Tensor:
        return self.stacks[-1]

    @property
    def last(self) -> int:
        return self.first + len(self.stacks) - 1

    def stack(self, level: int) -> Tensor:
        return self.stacks[level - self.first]

    def valid(self, level: int) -> Tensor | None:
        return self.validity[level - self.first] if self.validity else None


def reduce_frames(
    frames: Frames, levels: int, first: int, strip: int, advance: Callable[[int], None]
) -> KeptPyramid:
    """Read all frames once, from top to bottom, and keep level ``first`` and coarser levels.

    Args:
        levels: the level of the base; 1 ≤ ``first`` ≤ ``levels``.
        strip: rows that are reduced at a time, a multiple of ``2**first``.
        advance: called with the number of rows of the frames that were done.
    """
    height, width = frames.height, frames.width
    size = halved_size((height, width), first)
    probe = torch.empty(0, dtype=frames.dtype)
    count, everyone = len(frames), list(range(len(frames)))
    dtype = reduced_dtype(probe, first == levels)
    stack = empty_in_large_pages((1, count, frames.channels, *size), dtype, frames.device)
    validity = None
    if frames.masked:
        shape = 1, count, *size
        validity = torch.empty(shape, dtype=working_dtype(probe), device=frames.device)
    step = strip >> first
    for begin in range(0, size[0], step):
        end = min(begin + step, size[0])
        # One more row of the kept level on each side covers all rows that these depend on.
        top, bottom = max(0, begin - 1 << first), min(height, end + 1 << first)
        rows = slice(begin, end)
        skipped = begin - (top >> first)
        if validity is None:
            for k in everyone:
                window = frames.frame(k, top, bottom)
                out = stack[:, k : k + 1, :, rows]
                _reduce(window, None, levels, first, skipped, out, None)
        else:
            window, valid, _ = frames.window(everyone, top, bottom)
            assert valid is not None
            valid, out = effective_validity(valid), stack[..., rows, :]
            _reduce(window, valid, levels, first, skipped, out, validity[..., rows, :])
        advance(min(height, end << first) - (begin << first))
    stacks, validities = [stack], [] if validity is None else [validity]
    for level in range(first + 1, levels + 1):
        coarse, coarse_validity = multiscale.reduce_level(
            stacks[-1], level == levels, validities[-1] if validities else None
        )
        stacks.append(coarse)
        if coarse_validity is not None:
            validities.append(coarse_validity)
    return KeptPyramid(first, stacks, validities)


def _reduce(
    window: Tensor,
    valid: Tensor | None,
    levels: int,
    first: int,
    skipped: int,
    out: Tensor,
    out_validity: Tensor | None,
) -> None:
    """Reduce a window of the frames to level ``first`` and fill ``out`` with its inner rows."""
    for _ in range(1, first):
        window, valid = multiscale.reduce_level(window, False, valid)
    multiscale.reduce_rows(window, valid, skipped, out, out_validity)
