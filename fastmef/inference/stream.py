"""The fusion of one bracket by a network for any number of exposures, in strips of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastmef.allocator import release_freed_memory
from fastmef.errors import InputError
from fastmef.inference.arrays import ArraySource
from fastmef.inference.blend import StripBlender
from fastmef.inference.controls import Control
from fastmef.inference.core import KNEE, FusedBase, fill_invalid, fuse_base, informed_exposures
from fastmef.inference.frames import Frames
from fastmef.inference.order import dark_to_bright
from fastmef.inference.plan import Plan
from fastmef.inference.pyramid import KeptPyramid, reduce_frames
from fastmef.nn.multiscale import base_levels
from fastmef.nn.network import RANGE_TOLERANCE, FusionNet
from fastmef.reference.multiscale import (
    effective_validity,
    finished,
    unit_range,
    working_dtype,
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and how much of how much of it is."""


def fuse_streamed(
    network: FusionNet,
    frames: Frames,
    plan: Plan,
    given: Control,
    sink: Any,
    progress: Progress,
) -> NDArray[np.float32]:
    """Fuse ``frames`` into ``sink`` and return the weights ``(K, h, w)`` of the base."""
    count = len(frames)
    pyramid = reduce_to_base(frames, plan, progress)
    _check_range(frames, pyramid.base)
    groups = dark_to_bright(frames, pyramid.base)
    if given.names_frames:
        groups = [[k] for group in groups for k in group]
    order = [group[0] for group in groups]
    controls = given.controls(order, frames.device)
    base, validity = _ordered_base(pyramid, order)
    informed = informed_exposures(base.clamp(0, 1), controls)
    if len(informed) < len(order):
        groups = [groups[position] for position in informed]
        order = [group[0] for group in groups]
        if controls.bias is not None:
            controls = replace(controls, bias=controls.bias[:, informed])
        if frames.masked:  # where none but the others are valid all of these are
            frames = frames.subset(order)
            pyramid = reduce_to_base(frames, plan, progress)
            order = list(range(len(frames)))
        base, validity = _ordered_base(pyramid, order)
    progress("weighting", 0, 0)
    fused = fuse_base(network, base.float().clamp(0, 1), validity, controls)
    release_freed_memory()  # what the network took is not needed beside the strips
    _write(frames, pyramid, order, base, fused, controls.contrast, plan.strip, sink, progress)
    maps = fused.weights[0].cpu().numpy()
    as_given = np.zeros((count, *maps.shape[1:]), maps.dtype)
    for group, weight in zip(groups, maps, strict=True):
        as_given[group] = weight / len(group)
    return as_given


def reduce_to_base(frames: Frames, plan: Plan, progress: Progress) -> KeptPyramid:
    """Sweep over the frames and return the levels that are kept."""
    levels = base_levels(frames.height, frames.width)
    if levels == 0:
        window, valid, _ = frames.window(range(len(frames)), 0, frames.height)
        base = unit_range(window, working_dtype(window)).contiguous()
        validity = [] if valid is None else [effective_validity(valid).to(base.dtype)]
        return KeptPyramid(0, [base], validity)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        progress("reading", done, frames.height)

    return reduce_frames(frames, levels, min(plan.kept, levels), plan.strip, advance)


def _ordered_base(pyramid: KeptPyramid, order: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Return the base ``(1, K, 3, h, w)`` of these frames, grey as RGB, and its validity."""
    base, validity = pyramid.base[:, order], pyramid.valid(pyramid.last)
    if validity is not None:
        validity = validity[:, order]
        base = fill_invalid(base, validity)
    return base.expand(-1, -1, 3, -1, -1), validity


def _check_range(frames: Frames, base: Tensor) -> None:
    """Refuse NaN and infinity, and arrays out of [0, 1], as of 0 to 255.

    Files may reach beyond white: the scale of scene-linear ones leaves the brightest lights there.
    """
    low, high = (float(value) for value in base.aminmax())
    inside = low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE
    is_array = any(isinstance(source, ArraySource) for source in frames.sources)
    if not (math.isfinite(low) and math.isfinite(high)) or (is_array and not inside):
        found = "NaN" if low != low else f"values from {low:.4g} to {high:.4g}"
        raise InputError(f"images of floating-point numbers must be in [0, 1], got {found}")


def _write(
    frames: Frames,
    pyramid: KeptPyramid,
    order: Sequence[int],
    base: Tensor,
    fused: FusedBase,
    contrast: float,
    strip: int,
    sink: Any,
    progress: Progress,
) -> None:
    channels, height = frames.channels, frames.height
    image, base = fused.image[:, :channels], base[:, :, :channels]
    if pyramid.last == 0:
        window = frames.window(order, 0, height)
        sink.write_rows(_pixels(finished(image, window.images, KNEE)), window.alpha)
        return
    blender = StripBlender(frames, pyramid, order, base, image, fused.shares, contrast, strip)
    delivery = frames.delivery(sink)
    for begin in range(0, height, strip):
        end = min(begin + strip, height)
        target = delivery.target((end - begin, frames.width, channels), frames.dtype)
        delivery.deliver(blender.rows(begin, end, target.permute(2, 0, 1)[None]))
        progress("writing", end, height)
    delivery.finish()


def _pixels(image: Tensor) -> NDArray[Any]:
    """Return ``(1, C, H, W)`` as an array ``(H, W, C)``."""
    return image[0].permute(1, 2, 0).contiguous().cpu().numpy()
