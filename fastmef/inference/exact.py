"""Compute the plain weighted sum at full size with a network for a fixed number of exposures.

The network runs group by group, each in strips of rows. Between two groups only the features after
pooling or before upsampling are held, a quarter of the pixels or less. Images whose features do not
fit into memory are fused in bands of rows that overlap by the receptive field of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastmef.errors import InputError
from fastmef.inference.controls import Control
from fastmef.inference.convolve import (
    Framed,
    convolve,
    convolve_on,
    convolve_relu,
    extended,
    inner_columns,
    inner_rows,
)
from fastmef.inference.enlarge import enlarging_weight, spread_pixels
from fastmef.inference.frames import Frames
from fastmef.inference.memory import format_memory
from fastmef.inference.order import dark_to_bright
from fastmef.inference.plan import Bracket, Plan
from fastmef.inference.precision import precision_of, with_best_precision
from fastmef.inference.results import check_finite
from fastmef.inference.stream import Progress, reduce_to_base
from fastmef.nn.bodies import DEPTHS, STRIDE, StackBody
from fastmef.nn.multiscale import base_levels
from fastmef.nn.network import IN_FEATURES, FusionNet
from fastmef.ops.luma import stored_luma
from fastmef.ops.restoration import fuse_restored
from fastmef.reference.multiscale import unit_range, working_dtype

# Rows on either side of a strip that the convolutions of a group (at most three) and the upsampling
# before them (one) reach, without and with a margin of one pixel: that holds what the upsampling
# and the first convolution reach.
_MARGINS = 4, 2
_LAST = len(DEPTHS) - 1
_ORDER_ROWS = 256  # height of the strips in which frames are read to sort them
# Limit for the memory of one strip of a group.
_STRIP_BYTES = 120_000_000
# Limit for the memory of a band. With more memory, bands hardly become faster.
_BAND_BYTES = 700_000_000
# Measured: memory of the process in addition to what is counted here.
_OTHER_BYTES = 250_000_000


def receptive_rows() -> int:
    """Return the rows above or below a pixel that the network sees, rounded up to its stride."""
    reach = 0
    for level, depth in enumerate(DEPTHS):
        reach = -(-(reach + depth) // 2) if level < _LAST else reach + depth
    for level in reversed(range(len(DEPTHS))):
        reach += DEPTHS[level]
        if level:
            reach = 2 * reach + 1
    return -(-reach // STRIDE) * STRIDE


@dataclass(frozen=True)
class Bands:
    """Division of an image.

    Attributes:
        band: rows of a band without its overlap.
        strip: rows of a strip of a group.
        memory: estimate of the bytes that are allocated.
    """

    band: int
    strip: int
    memory: int


def make_bands(network: FusionNet, bracket: Bracket, memory: int, want_weights: bool) -> Bands:
    """Return the division that fits into ``memory`` bytes, in addition to what the process has.

    Raises:
        InputError: no division fits.
    """
    height = bracket.height
    band_row, strip_row = _band_row(network, bracket), _strip_row(network, bracket)
    overlap = 2 * receptive_rows()
    around = 2 * (_MARGINS[_edge(network)] + 1)
    fixed = bracket.resident_bytes + _OTHER_BYTES
    if want_weights:  # as they are made, and in the order of the images
        fixed += 8 * bracket.count * height * bracket.width
    left = memory - fixed
    strip = (min(_STRIP_BYTES, left // 3) // strip_row - around) // STRIDE * STRIDE
    strip = max(2 * STRIDE, min(strip, -(-height // STRIDE) * STRIDE))
    strips = (strip + around) * strip_row
    rows = min(_BAND_BYTES, left - strips) // band_row
    if rows >= height:
        rows, band = height, -(-height // STRIDE) * STRIDE
    else:
        band = (rows - overlap) // STRIDE * STRIDE
    if band < STRIDE:
        least = fixed + (overlap + STRIDE) * band_row + (2 * STRIDE + around) * strip_row
        raise InputError(
            f"images of {bracket.width}×{height} pixels need {format_memory(least)} of memory at"
            f" full size, {format_memory(max(0, memory))} can be used; --memory sets another limit"
        )
    return Bands(band, strip, fixed + strips + rows * band_row)


def _edge(network: FusionNet) -> int:
    """Return the width of the margin around features."""
    return 1 if network.config["padding"] == "replicate" else 0


def _feature_row(network: FusionNet, bracket: Bracket) -> int:
    """Return the bytes of a row of features, which are the same at every level."""
    size = next(network.body.parameters()).element_size()
    return network.config["width"] * size * bracket.width


def _band_row(network: FusionNet, bracket: Bracket) -> int:
    """Return the bytes of a full-size row that are held between groups."""
    # Features that are held at once before upsampling, as a multiple of the network's width at
    # every full-size pixel: 2/4 + 4/16, and 1 + 2/4 + 4/16 more with skip connections.
    quarters = 10 if network.config["skip_connections"] else 3
    return _feature_row(network, bracket) * quarters // 4


def _strip_row(network: FusionNet, bracket: Bracket) -> int:
    """Return the bytes of a row of a strip, of the finest level."""
    # Three tensors of the network's width are live at once, five with skip connections. Freed ones
    # that do not fit the next are kept by malloc: the peak was nearly twice as high.
    features = (8 if network.config["skip_connections"] else 6) * _feature_row(network, bracket)
    values = bracket.count * bracket.channels
    # Images in floating point, and their planes.
    planes = 4 * bracket.width * (2 * values + 3 * bracket.count)
    stored = bracket.width * (values + bracket.channels) * bracket.itemsize
    if bracket.streams:
        stored += 2 * bracket.width * values * bracket.itemsize  # joined windows
    return max(features, planes) + stored


def fuse_exactly(
    network: FusionNet,
    frames: Frames,
    bracket: Bracket,
    memory: int,
    given: Control,
    sink: Any,
    progress: Progress,
    want_weights: bool,
) -> tuple[NDArray[np.float32], str]:
    """Fuse ``frames`` into ``sink``; return weights ``(K, H, W)``, if wanted, and the precision.

    Args:
        bracket: of the frames.
        memory: that may be taken, in bytes.
    """
    expected = network.config["exposures"]
    if expected != len(frames):
        raise InputError(f"this model fuses exactly {expected} images, got {len(frames)}")
    given.require_defaults()
    if frames.has_alpha:
        raise InputError("images with alpha need a model for any number of exposures")
    height, width = frames.height, frames.width
    make_bands(network, bracket, memory, want_weights)  # what does not fit is refused at once
    plan = Plan(base_levels(height, width), _ORDER_ROWS, 0)
    base = reduce_to_base(frames, plan, progress).base
    order = [k for group in dark_to_bright(frames, base) for k in group]
    network = with_best_precision(network, base[:, order], height * width)
    precision = precision_of(network)
    bands = make_bands(network, bracket, memory, want_weights)
    weights = torch.empty((len(order), height, width)) if want_weights else None
    held = _held_memory(network, min(height, bands.band + 2 * receptive_rows()), width)
    for begin in range(0, frames.height, bands.band):
        end = min(begin + bands.band, frames.height)
        _Band(network, frames, order, held, bands.strip, begin, end).fuse(
            given.color, sink, weights, progress
        )
    if weights is None:
        return np.empty((0, 0, 0), np.float32), precision
    as_given = np.empty(weights.shape, np.float32)
    as_given[order] = weights.numpy()
    return as_given, precision


def _held_memory(network: FusionNet, rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Allocate what holds the outputs of groups, of which every second is in the same memory.

    Freed and allocated anew, they would lie between strips in ever more memory. The largest are
    those of the decoder's groups at half the size and at a quarter of it; of small images, where
    the margin counts, those of the coarsest level.
    """

    def count(level: int) -> int:
        side = [-(-x // STRIDE) * STRIDE // 2**level + 2 for x in (rows, width)]
        return network.config["width"] * 2**level * math.prod(side)

    like = next(network.body.parameters())
    return like.new_empty(max(count(1), count(_LAST))), like.new_empty(max(count(2), count(_LAST)))


class _Band:
    """Compute rows ``[begin, end)`` of the result from features of these rows and a margin."""

    def __init__(
        self,
        network: FusionNet,
        frames: Frames,
        order: list[int],
        memory: tuple[Tensor, Tensor],
        strip: int,
        begin: int,
        end: int,
    ) -> None:
        assert isinstance(network.body, StackBody)
        self._network, self._body = network, network.body
        self._frames, self._order, self._strip = frames, order, strip
        self._memory = memory
        self._begin, self._end = begin, end
        self._edge = _edge(network)
        self._margin = _MARGINS[self._edge]
        self._enlarging = self._enlarging_convolutions()
        margin = receptive_rows()
        self._top = max(0, begin - margin)
        self._bottom = min(frames.height, end + margin)

    def fuse(self, color: float, sink: Any, weights: Tensor | None, progress: Progress) -> None:
        """Write the rows to ``sink`` and into ``weights`` ``(K, H, W)``."""
        features, skipped = self._encode()
        for level in range(_LAST, 0, -1):
            features = self._decode(level, features, skipped)
            progress("weighting", len(DEPTHS) - level, len(DEPTHS))
        for begin in range(self._begin, self._end, self._strip):
            end = min(begin + self._strip, self._end)
            logits = self._logits(begin, end, features, skipped)
            check_finite(logits)  # integers would hide what is not a number
            exposures = self._exposures(begin, end)
            strength = color if exposures.shape[2] == 3 else 0.0
            fused, maps = fuse_restored(logits, exposures, strength, weights is not None)
            if fused.is_floating_point():
                check_finite(fused)
            sink.write_rows(fused[0].permute(1, 2, 0).contiguous().cpu().numpy(), None)
            if weights is not None:
                weights[:, begin:end] = maps[0].cpu()
            progress("writing", end, self._frames.height)

    def _exposures(self, begin: int, end: int) -> Tensor:
        """Return rows of the exposures as they are stored, overwritten by the next call."""
        return self._frames.window(self._order, begin, end).images

    def _planes(self, begin: int, end: int) -> Tensor:
        """Return what the network reads of rows of the band, with a margin."""
        height, width = self._bottom - self._top, self._frames.width
        top, bottom = max(0, begin - self._edge), min(end + self._edge, height)
        stored = self._exposures(self._top + top, self._top + bottom)
        like = next(self._network.body.parameters())

        def fill(out: Tensor) -> None:
            # Rounded once: the features are in bfloat16, where the body is, and what they are made
            # from is not.
            if self._network.config["in_features"] == "gray" and stored.shape[2] == 3:
                stored_luma(stored, out)
                return
            working = torch.promote_types(like.dtype, working_dtype(stored))
            images = unit_range(stored, working).expand(-1, -1, 3, -1, -1)
            out.copy_(self._network.planes(images).flatten(1, 2))

        planes = stored.shape[1] * IN_FEATURES[self._network.config["in_features"]]
        columns = self._edge, self._edge + self._width(0) - width
        rows = top - (begin - self._edge), end + self._edge - bottom
        return extended(fill, like, (planes, bottom - top, width), columns, rows)

    def _rows(self, level: int) -> int:
        """Return how many rows the features of a level have."""
        return -(-(self._bottom - self._top) // STRIDE) * STRIDE >> level

    def _width(self, level: int) -> int:
        """Return how many columns the features of a level have."""
        return -(-self._frames.width // STRIDE) * STRIDE >> level

    def _held(self, like: Tensor, level: int) -> Framed:
        """Return features in the memory of those before the last."""
        memory = self._memory[0]
        self._memory = self._memory[1], memory
        return self._framed(memory, like, level)

    def _skipped(self, like: Tensor, level: int) -> Framed:
        """Return features in memory of their own."""
        side = self._rows(level) + 2, self._width(level) + 2
        return self._framed(like.new_empty(like.shape[1] * math.prod(side)), like, level)

    def _framed(self, memory: Tensor, like: Tensor, level: int) -> Framed:
        return Framed(memory, like.shape[1], self._rows(level), self._width(level), self._edge)

    def _encode(self) -> tuple[Framed, list[Framed]]:
        """Return the features of the coarsest level, and of finer ones for skip connections."""
        read: Callable[[int, int], Tensor] = self._planes
        skipped: list[Framed] = []
        for level, group in enumerate(self._body.encoder):
            last = level == _LAST
            whole = result = None
            for begin, end, top, bottom in self._strips(level):
                part = convolve(group, read(top, bottom), self._width(level), self._edge)
                rows = inner_rows(part, begin - top, end - top, self._edge)
                if self._body.skip_connections and not last:
                    whole = whole or self._skipped(part, level)
                    whole.fill(rows, begin)
                result = result or self._held(part, level if last else level + 1)
                if last:
                    result.fill(rows, begin)
                else:
                    result.fill_pooled(rows, begin // 2)
            if whole is not None:
                whole.replicate()
                skipped.append(whole)
            assert result is not None
            result.replicate()
            read = result.rows
        assert result is not None
        return result, skipped

    def _decode(self, level: int, features: Framed, skipped: list[Framed]) -> Framed:
        """Return the output of the decoder group of ``level``, before it is upsampled."""
        result = None
        for begin, end, top, bottom in self._strips(level):
            part = self._group(level, top, bottom, features, skipped)
            result = result or self._held(part, level)
            result.fill(inner_rows(part, begin - top, end - top, self._edge), begin)
        assert result is not None
        result.replicate()
        return result

    def _group(
        self, level: int, top: int, bottom: int, features: Framed, skipped: list[Framed]
    ) -> Tensor:
        """Return the group of ``level``, with a margin; the margin and rows beside it are wrong."""
        group: Any = self._body.decoder[_LAST - level]
        width = self._width(level)
        if level in self._enlarging:
            _, *others = group
            small = features.rows(top // 2, bottom // 2)
            part = spread_pixels(convolve_relu(small, *self._enlarging[level], (1, 1)))
            part = part.narrow(-2, 1, bottom - top + 2)
            return convolve_on(others, part, width, self._edge)
        # The window has no name, so that it is freed after the first convolution.
        return convolve(
            group, self._decoded(level, top, bottom, features, skipped), width, self._edge
        )

    def _enlarging_convolutions(self) -> dict[int, tuple[Tensor, Tensor | None]]:
        """Return weight and bias of the first convolution of enlarged features, by level.

        Zeros beyond the border are no enlargement of anything small, and skipped features are
        large.
        """
        found: dict[int, tuple[Tensor, Tensor | None]] = {}
        for level in range(_LAST if self._edge and not self._body.skip_connections else 0):
            group: Any = self._body.decoder[_LAST - level]
            convolution, norm, _ = group[0]
            if isinstance(norm, nn.Identity):
                bias = None if convolution.bias is None else convolution.bias.repeat(4)
                found[level] = enlarging_weight(convolution.weight, self._body.upsampling), bias
        return found

    def _decoded(
        self, level: int, top: int, bottom: int, features: Framed, skipped: list[Framed]
    ) -> Tensor:
        """Return what the decoder's group of ``level`` reads of a window, with a margin."""
        if level == _LAST:
            return features.rows(top, bottom)
        window = features.doubled(top, bottom, self._body.upsampling)
        if not self._body.skip_connections:
            return window
        window = inner_columns(window, self._width(level) + 2 * self._edge)
        return torch.cat((window, skipped[level].rows(top, bottom)), dim=1)

    def _logits(self, begin: int, end: int, features: Framed, skipped: list[Framed]) -> Tensor:
        """Return the logits of rows ``[begin, end)`` of the image, ``(1, K, rows, W)``."""
        begin, end = begin - self._top, end - self._top
        margin = self._margin
        top, bottom = max(0, begin - margin), min(self._rows(0), (end + margin + 1) // 2 * 2)
        part = self._group(0, top, bottom, features, skipped)
        logits = self._body.head(inner_rows(part, begin - top, end - top, self._edge))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits[..., self._edge : self._edge + self._frames.width]

    def _strips(self, level: int) -> list[tuple[int, int, int, int]]:
        """Return rows of each strip of a level, and of the window that they are made from."""
        rows, margin = self._rows(level), self._margin
        strips = []
        # A row takes as much memory at every level: with half the pixels twice the channels.
        for begin in range(0, rows, self._strip):
            end = min(begin + self._strip, rows)
            strips.append((begin, end, max(0, begin - margin), min(rows, end + margin)))
        return strips
