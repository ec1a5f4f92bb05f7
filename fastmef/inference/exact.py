"""Compute the plain weighted sum at full size with a network for a fixed number of exposures.

The network runs group by group, each in strips of rows. Between two groups only the features after
pooling or before upsampling are held, a quarter of the pixels or less. Images whose features do not
fit into memory are fused in bands of rows that overlap by the receptive field of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fastmef import functional
from fastmef.errors import InputError
from fastmef.inference.controls import Control
from fastmef.inference.convolve import Framed, convolve, inner_columns
from fastmef.inference.frames import Frames
from fastmef.inference.memory import format_memory
from fastmef.inference.order import dark_to_bright
from fastmef.inference.plan import Plan
from fastmef.inference.precision import precision_of, with_best_precision
from fastmef.inference.results import check_finite
from fastmef.inference.stream import Progress, reduce_to_base
from fastmef.nn.blocks import follow
from fastmef.nn.bodies import DEPTHS, STRIDE, StackBody
from fastmef.nn.multiscale import base_levels
from fastmef.nn.network import FusionNet
from fastmef.reference.multiscale import unit_range, working_dtype
from fastmef.reference.restoration import restore_color

# Rows on either side of a strip that the convolutions of a group (at most three) and the upsampling
# before them (one) reach.
_MARGIN = 4
_LAST = len(DEPTHS) - 1
_ORDER_ROWS = 256  # height of the strips in which frames are read to sort them
# Limit for the memory of one strip of the finest level.
_STRIP_BYTES = 200_000_000
# Limit for the memory of a band. With more memory, bands hardly become faster.
_BAND_BYTES = 700_000_000


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
    """Division of an image: rows of a band without its overlap, and rows of a strip of a group."""

    band: int
    strip: int


def make_bands(network: FusionNet, height: int, width: int, memory: int) -> Bands:
    """Return the division that fits into ``memory`` bytes.

    Raises:
        InputError: no division fits.
    """
    channels = network.config["width"] * next(network.body.parameters()).element_size()
    # A strip of the finest group holds six tensors of the network's width at once.
    strip_row = 6 * channels * width
    # Features that are held at once before upsampling, as a multiple of the network's width at
    # every full-size pixel: 2/4 + 4/16, and 1 + 2/4 + 4/16 more with skip connections.
    band_row = channels * width * (10 if network.config["skip_connections"] else 3) // 4
    margins = 2 * receptive_rows()
    strip = min(_STRIP_BYTES, memory // 3) // strip_row // STRIDE * STRIDE - 2 * _MARGIN
    strip = max(2 * STRIDE, strip // STRIDE * STRIDE)
    left = min(_BAND_BYTES, memory - (strip + 2 * _MARGIN) * strip_row)
    rows = left // band_row
    if rows >= height:
        return Bands(-(-height // STRIDE) * STRIDE, strip)
    band = (rows - margins) // STRIDE * STRIDE
    if band < STRIDE:
        least = (margins + STRIDE) * band_row + (2 * STRIDE + 2 * _MARGIN) * strip_row
        raise InputError(
            f"images of {width}×{height} pixels need {format_memory(least)} of memory at full size,"
            f" {format_memory(max(0, memory))} can be used; --memory sets another limit"
        )
    return Bands(band, strip)


def fuse_exactly(
    network: FusionNet,
    frames: Frames,
    memory: int,
    given: Control,
    sink: Any,
    progress: Progress,
    want_weights: bool,
) -> tuple[NDArray[np.float32], str]:
    """Fuse ``frames`` into ``sink``; return weights ``(K, H, W)``, if wanted, and the precision.

    Args:
        memory: bytes that features may take.
    """
    expected = network.config["exposures"]
    if expected != len(frames):
        raise InputError(f"this model fuses exactly {expected} images, got {len(frames)}")
    given.require_defaults()
    if frames.has_alpha:
        raise InputError("images with alpha need a model for any number of exposures")
    height, width = frames.height, frames.width
    bands = make_bands(network, height, width, memory)
    plan = Plan(base_levels(height, width), _ORDER_ROWS, 0)
    base = reduce_to_base(frames, plan, progress).base
    order = [k for group in dark_to_bright(frames, base) for k in group]
    network = with_best_precision(network, base[:, order], height * width)
    precision = precision_of(network)
    weights = torch.empty((len(order), height, width)) if want_weights else None
    for begin in range(0, frames.height, bands.band):
        end = min(begin + bands.band, frames.height)
        _Band(network, frames, order, bands.strip, begin, end).fuse(
            given.color, sink, weights, progress
        )
    if weights is None:
        return np.empty((0, 0, 0), np.float32), precision
    as_given = np.empty(weights.shape, np.float32)
    as_given[order] = weights.numpy()
    return as_given, precision


class _Band:
    """Compute rows ``[begin, end)`` of the result from features of these rows and a margin."""

    def __init__(
        self,
        network: FusionNet,
        frames: Frames,
        order: list[int],
        strip: int,
        begin: int,
        end: int,
    ) -> None:
        assert isinstance(network.body, StackBody)
        self._network, self._body = network, network.body
        self._frames, self._order, self._strip = frames, order, strip
        self._begin, self._end = begin, end
        self._edge = 1 if network.config["padding"] == "replicate" else 0
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
            images, exposures = self._images(begin, end)
            fused, maps = functional.softmax_fuse(logits, images, return_weights=True)
            check_finite(fused)
            if color and images.shape[2] == 3:
                fused = restore_color(fused, maps, images, color)
            if not exposures.is_floating_point():
                highest = torch.iinfo(exposures.dtype).max
                fused = (fused * highest).round_().clamp_(0, highest)
            fused = fused.to(exposures.dtype)
            sink.write_rows(fused[0].permute(1, 2, 0).contiguous().cpu().numpy(), None)
            if weights is not None:
                weights[:, begin:end] = maps[0].cpu()
            progress("writing", end, self._frames.height)

    def _images(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Return rows of the exposures in floating point, and as they are stored."""
        stored = self._frames.window(self._order, begin, end).images
        return unit_range(stored, working_dtype(stored)).contiguous(), stored

    def _planes(self, begin: int, end: int) -> Tensor:
        """Return the network's input for rows of the band, with a margin, ``(1, C, rows, W)``."""
        height, width = self._bottom - self._top, self._frames.width
        top, bottom = max(0, begin - self._edge), min(end + self._edge, height)
        images, _ = self._images(self._top + top, self._top + bottom)
        network = self._network
        # Planes are computed in float32 and rounded to bfloat16 afterwards if the body runs in it.
        dtype = next(network.body.parameters()).dtype
        working = torch.promote_types(dtype, torch.float32)
        planes = network.planes(images.expand(-1, -1, 3, -1, -1).to(working)).flatten(1, 2)
        planes = planes.to(dtype).contiguous(memory_format=torch.channels_last)
        columns = self._edge, self._edge + self._width(0) - width
        rows = top - (begin - self._edge), end + self._edge - bottom
        return F.pad(planes, (*columns, *rows), mode="replicate")

    def _rows(self, level: int) -> int:
        """Return how many rows the features of a level have."""
        return -(-(self._bottom - self._top) // STRIDE) * STRIDE >> level

    def _width(self, level: int) -> int:
        """Return how many columns the features of a level have."""
        return -(-self._frames.width // STRIDE) * STRIDE >> level

    def _framed(self, like: Tensor, level: int) -> Framed:
        """Allocate the features of a level, with as many channels as ``like``."""
        return Framed(like, self._rows(level), self._width(level), self._edge)

    def _encode(self) -> tuple[Framed, list[Framed]]:
        """Return the features of the coarsest level, and of finer ones for skip connections."""
        read: Callable[[int, int], Tensor] = self._planes
        skipped: list[Framed] = []
        for level, group in enumerate(self._body.encoder):
            last = level == _LAST
            by = 1 if last else 2
            whole = result = None
            for begin, end, top, bottom in self._strips(level):
                part = convolve(group, read(top, bottom), self._width(level), self._edge)
                part = part[..., begin - top : end - top, :]
                if self._body.skip_connections and not last:
                    whole = whole or self._framed(part, level)
                    whole.fill(part, begin)
                # max(ReLU(x)) = ReLU(max(x)): after pooling, ReLU has a quarter of the values.
                part = part if last else follow(part, "pool")
                result = result or self._framed(part, level if last else level + 1)
                result.fill(part, begin // by)
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
            result = result or self._framed(part, level)
            result.fill(part[..., begin - top : end - top, :], begin)
        assert result is not None
        result.replicate()
        return result

    def _group(
        self, level: int, top: int, bottom: int, features: Framed, skipped: list[Framed]
    ) -> Tensor:
        """Return the decoder group of ``level`` before its last ReLU.

        The outermost rows of the window are wrong: they lack neighbours.
        """
        width = self._width(level)
        if level == _LAST:
            window = features.rows(top, bottom)
        else:
            window = features.doubled(top, bottom, self._body.upsampling)
            if self._body.skip_connections:
                window = inner_columns(window, width + 2 * self._edge)
                window = torch.cat((window, skipped[level].rows(top, bottom)), dim=1)
        return convolve(self._body.decoder[_LAST - level], window, width, self._edge)

    def _logits(self, begin: int, end: int, features: Framed, skipped: list[Framed]) -> Tensor:
        """Return the logits of rows ``[begin, end)`` of the image, ``(1, K, rows, W)``."""
        begin, end = begin - self._top, end - self._top
        top, bottom = max(0, begin - _MARGIN), min(self._rows(0), (end + _MARGIN + 1) // 2 * 2)
        part = self._group(0, top, bottom, features, skipped)
        logits = self._body.head(F.relu_(part[..., begin - top : end - top, : self._frames.width]))
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()

    def _strips(self, level: int) -> list[tuple[int, int, int, int]]:
        """Return ``(begin, end, top, bottom)`` of the strips of a level.

        Rows ``[begin, end)`` are computed from the window of rows ``[top, bottom)``.
        """
        rows = self._rows(level)
        step = self._strip >> level if level == 0 else max(STRIDE, self._strip >> level)
        strips = []
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            strips.append((begin, end, max(0, begin - _MARGIN), min(rows, end + _MARGIN)))
        return strips
