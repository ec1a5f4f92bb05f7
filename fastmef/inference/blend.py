"""The second sweep over the frames blends the bands of detail into strips of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastmef.inference.core import KNEE
from fastmef.inference.frames import Frames
from fastmef.inference.pyramid import KeptPyramid
from fastmef.ops import multiscale
from fastmef.reference.multiscale import (
    RADIUS,
    BandOptions,
    effective_validity,
    reduced_dtype,
    working_dtype,
)
from fastmef.reference.pyramid import halved_size

Rows = tuple[int, int]
# Rows of the exposures, in one tensor or one tensor per exposure, and the validity of each pixel.
Level = tuple["Tensor | list[Tensor]", "Tensor | None"]


def blended_rows(begin: int, end: int, heights: Sequence[int]) -> list[Rows]:
    """Return the rows of every level that rows ``[begin, end)`` of the first one are blended from.

    Args:
        heights: heights of the levels whose bands are blended in, finest first, and of the next
            coarser level.

    Returns:
        ``[begin, end)`` for each of ``heights`` except the last. Every ``begin`` is even.
    """
    windows = []
    for height, coarse in zip(heights, heights[1:], strict=False):
        begin, end = max(0, begin - RADIUS) // 2 * 2, min(height, (end + RADIUS + 1) // 2 * 2)
        windows.append((begin, end))
        begin, end = begin // 2, min(coarse, (end + 1) // 2)
    return windows


def needed_rows(blended: Sequence[Rows], heights: Sequence[int], kept: int) -> list[Rows]:
    """Extend ``blended`` by the rows that coarser levels are reduced from.

    Args:
        kept: the finest level that is in memory; finer levels are reduced from the frames.
    """
    windows = list(blended)
    for level in range(min(kept, len(windows)) - 1, 0, -1):
        begin, end = windows[level]
        finer = windows[level - 1]
        # A coarse row is reduced from four rows: its own two and one neighbour on each side.
        begin, end = max(0, 2 * begin - 2), min(heights[level - 1], 2 * end + 2)
        windows[level - 1] = min(begin, finer[0]), max(end, finer[1])
    return windows


class StripBlender:
    """Compute rows of the fused image from the frames, the kept pyramid and the fused base.

    Args:
        order: the frames to use, in the order of ``shares`` and ``base``.
        base: coarsest level of the exposures in ``order``, ``(1, K, C, h, w)``.
        fused: the fused image at that level, ``(1, C, h, w)``.
        shares: share of each exposure in the bands, ``(1, K)``.
        strip: rows that are blended at a time where a whole level is blended.
    """

    def __init__(
        self,
        frames: Frames,
        pyramid: KeptPyramid,
        order: Sequence[int],
        base: Tensor,
        fused: Tensor,
        shares: Tensor,
        contrast: float,
        strip: int,
    ) -> None:
        self._frames, self._pyramid, self._order = frames, pyramid, list(order)
        self._base, self._shares, self._contrast = base, shares, contrast
        self._sorted = self._order == list(range(len(frames)))
        levels = pyramid.last
        size = frames.height, frames.width
        self._heights = [halved_size(size, level)[0] for level in range(levels + 1)]
        # The fused image is held from the level after the finest kept one on: at the finest kept
        # level it would take as many bytes as a frame.
        self._held = min(pyramid.first + 1, levels)
        self._fused = fused.to(base.dtype)
        for level in range(levels - 1, self._held - 1, -1):
            self._fused = self._whole_level(level, strip)

    def rows(self, begin: int, end: int, out: Tensor) -> NDArray[np.bool_] | None:
        """Fill ``out`` ``(1, C, rows, W)`` with rows of the result.

        Returns:
            Bool ``(rows, W)``, true where any frame is valid; ``None`` if no frame has alpha.
        """
        heights = self._heights[: self._held + 1]
        blended = blended_rows(begin, end, heights)
        needed = needed_rows(blended, heights, self._pyramid.first)
        finest, alpha = self._finest(*needed[0])
        levels: list[Level] = [finest]
        for level in range(1, self._pyramid.first):
            levels.append(self._reduced(levels[-1], needed[level - 1][0], needed[level]))
        fused = self._fused[..., slice(*_half(blended[-1])), :]
        for level in range(self._held - 1, -1, -1):
            # The finer level is blended from these rows.
            wanted = (begin, end) if level == 0 else _half(blended[level - 1])
            fine, coarse = (
                _inside(levels[n], needed[n], rows) if n < len(levels) else self._kept(n, *rows)
                for n, rows in ((level, blended[level]), (level + 1, _half(blended[level])))
            )
            target = out if level == 0 else self._empty(level, wanted)
            self._blend(level, fine, coarse, fused, wanted[0] - blended[level][0], target)
            fused = target
        return None if alpha is None else alpha[begin - needed[0][0] : end - needed[0][0]]

    def _finest(self, begin: int, end: int) -> tuple[Level, NDArray[np.bool_] | None]:
        """Return rows of the frames, and where the alpha of any of them marks a valid pixel."""
        apart = self._frames.apart(self._order, begin, end)
        if apart is not None:
            return (apart, None), None
        images, valid, alpha = self._frames.window(self._order, begin, end)
        return (images, None if valid is None else effective_validity(valid)), alpha

    def _whole_level(self, level: int, strip: int) -> Tensor:
        """Return the fused image of a whole level in memory, blended ``strip`` rows at a time."""
        fused = self._empty(level, (0, self._heights[level]))
        height = self._heights[level]
        for begin in range(0, height, strip):
            end = min(begin + strip, height)
            ((top, bottom),) = blended_rows(begin, end, self._heights[level : level + 2])
            half = _half((top, bottom))
            self._blend(
                level,
                self._kept(level, top, bottom),
                self._kept(level + 1, *half),
                self._fused[..., slice(*half), :],
                begin - top,
                fused[..., begin:end, :],
            )
        return fused

    def _blend(
        self, level: int, fine: Level, coarse: Level, fused: Tensor, first: int, out: Tensor
    ) -> None:
        """Blend the band of one level into the fused next coarser one.

        Args:
            fused: rows of the fused coarser level, as many as ``coarse`` has.
            first: the row of ``fine`` that becomes the first row of ``out``.
        """
        assert isinstance(coarse[0], Tensor)  # only full-size frames come as separate tensors
        multiscale.blend_rows(
            fine[0],
            coarse[0],
            fused,
            self._shares,
            fine[1],
            coarse[1],
            BandOptions(contrast=self._contrast, finest=level == 0, low=KNEE[0], high=KNEE[1]),
            first,
            out,
        )

    def _kept(self, level: int, begin: int, end: int) -> Level:
        """Return rows of a level in memory, with its exposures in ``order``."""
        rows = slice(begin, end)
        valid = self._pyramid.valid(level)
        stack = self._base if level == self._pyramid.last else self._pyramid.stack(level)
        window = stack[..., rows, :]
        window_valid = None if valid is None else valid[..., rows, :]
        if self._sorted:
            return window, window_valid
        if level != self._pyramid.last:
            gathered = window.new_empty((1, len(self._order), *window.shape[2:]))
            for position, k in enumerate(self._order):  # faster than indexing a uint16 tensor
                gathered[:, position].copy_(window[:, k])
            window = gathered
        return window, None if window_valid is None else window_valid[:, self._order]

    def _reduced(self, finer: Level, finer_begin: int, wanted: Rows) -> Level:
        """Reduce a window to the ``wanted`` rows of the next level, which it must cover."""
        images, valid = finer
        begin, end = wanted
        parts = images if isinstance(images, list) else [images]
        size = end - begin, (parts[0].shape[-1] + 1) // 2
        shape = 1, len(self._order), self._frames.channels, *size
        coarse = parts[0].new_empty(shape, dtype=reduced_dtype(parts[0], False))
        coarse_valid = None
        if valid is not None:
            coarse_valid = valid.new_empty((*shape[:2], *size), dtype=working_dtype(parts[0]))
        first = begin - finer_begin // 2
        for part, out in zip(parts, coarse.tensor_split(len(parts), dim=1), strict=True):
            multiscale.reduce_rows(part, valid, first, out, coarse_valid)
        return coarse, coarse_valid

    def _empty(self, level: int, rows: Rows) -> Tensor:
        """Allocate rows of the fused image of a level, ``(1, C, rows, w)``."""
        width = halved_size((1, self._frames.width), level)[1]
        shape = 1, self._frames.channels, rows[1] - rows[0], width
        return self._fused.new_empty(shape)


def _half(rows: Rows) -> Rows:
    """Return the rows of the next coarser level that cover ``rows``."""
    return rows[0] // 2, (rows[1] + 1) // 2


def _inside(level: Level, has: Rows, wanted: Rows) -> Level:
    """Cut the ``wanted`` rows out of a level that holds the rows ``has``."""
    rows = slice(wanted[0] - has[0], wanted[1] - has[0])
    images, valid = level
    if isinstance(images, list):
        return [image[..., rows, :] for image in images], None
    return images[..., rows, :], None if valid is None else valid[..., rows, :]
