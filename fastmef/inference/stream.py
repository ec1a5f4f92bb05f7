"""Fuse one bracket with a network for any number of exposures, in strips of rows."""

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
from fastmef.inference.core import (
    KNEE,
    Controls,
    FusedBase,
    fill_invalid,
    fuse_base,
    informed_exposures,
)
from fastmef.inference.frames import Frames
from fastmef.inference.order import dark_to_bright
from fastmef.inference.plan import Plan
from fastmef.inference.pyramid import KeptPyramid, reduce_frames
from fastmef.nn.multiscale import base_levels, base_size
from fastmef.nn.network import RANGE_TOLERANCE, FusionNet
from fastmef.ops import multiscale
from fastmef.reference.multiscale import (
    BandOptions,
    effective_validity,
    finished,
    resample_base,
    unit_range,
    working_dtype,
)
from fastmef.reference.pyramid import shrink

Progress = Callable[[str, int, int], None]
"""Called with the name of the current phase, the amount done and the total."""


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
    size = base_size(frames.height, frames.width)
    pyramid = reduce_to_base(frames, plan, progress)
    _check_range(frames, pyramid.base)
    groups = dark_to_bright(frames, pyramid.base)
    if given.names_frames:
        groups = [[k] for group in groups for k in group]
    order = [group[0] for group in groups]
    controls = given.controls(order, frames.device)
    base, validity = _ordered_base(pyramid, order, size)
    informed = informed_exposures(_seen(base, validity), controls)
    if len(informed) < len(order):
        groups = [groups[position] for position in informed]
        order = [group[0] for group in groups]
        if controls.bias is not None:
            controls = replace(controls, bias=controls.bias[:, informed])
        # With masks, the pyramid depends on which frames are used: pixels that only the left-out
        # frames cover are fused from all remaining ones.
        if frames.masked:
            frames = frames.subset(order)
            pyramid = reduce_to_base(frames, plan, progress)
            order = list(range(len(frames)))
        base, validity = _ordered_base(pyramid, order, size)
    progress("weighting", 0, 0)
    fused = fuse_base(network, _seen(base, validity), validity, controls)
    release_freed_memory()  # the strips need the memory that the network used
    blended = _coarsest_level(pyramid, order, base, validity, fused, controls.contrast)
    _write(frames, pyramid, order, blended, fused.shares, controls, plan.strip, sink, progress)
    maps = fused.weights[0].cpu().numpy()
    as_given = np.zeros((count, *maps.shape[1:]), maps.dtype)
    for group, weight in zip(groups, maps, strict=True):
        as_given[group] = weight / len(group)
    return as_given


def reduce_to_base(frames: Frames, plan: Plan, progress: Progress) -> KeptPyramid:
    """Read all frames once and return the levels of their pyramid that are kept."""
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


def _ordered(pyramid: KeptPyramid, order: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """Return the coarsest level ``(1, K, C, h, w)`` of frames in ``order``, and its validity."""
    validity = pyramid.valid(pyramid.last)
    return pyramid.base[:, order], None if validity is None else validity[:, order]


def _ordered_base(
    pyramid: KeptPyramid, order: Sequence[int], size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Return the base of the frames in ``order``, ``(1, K, C, *size)``, and its validity."""
    return resample_base(*_ordered(pyramid, order), size, shrink)


def _seen(base: Tensor, validity: Tensor | None) -> Tensor:
    """Return the input of the network: the base as RGB in [0, 1], with invalid pixels filled."""
    filled = base if validity is None else fill_invalid(base, validity)
    return filled.expand(-1, -1, 3, -1, -1).float().clamp(0, 1)


def _coarsest_level(
    pyramid: KeptPyramid,
    order: Sequence[int],
    base: Tensor,
    validity: Tensor | None,
    fused: FusedBase,
    contrast: float,
) -> Tensor:
    """Return the fused image ``(1, C, h, w)`` of the coarsest level of the pyramid."""
    coarsest, coarsest_validity = _ordered(pyramid, order)
    image = fused.image[:, : base.shape[2]].to(base.dtype)
    if image.shape[-2:] == coarsest.shape[-2:]:
        return image
    return multiscale.blend_base(
        coarsest,
        base,
        image,
        fused.shares,
        coarsest_validity,
        validity,
        BandOptions(contrast=contrast),
    )


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
    image: Tensor,
    shares: Tensor,
    controls: Controls,
    strip: int,
    sink: Any,
    progress: Progress,
) -> None:
    height = frames.height
    if pyramid.last == 0:
        window = frames.window(order, 0, height)
        sink.write_rows(_pixels(finished(image, window.images, KNEE)), window.alpha)
        return
    coarsest = _ordered(pyramid, order)[0]
    blender = StripBlender(
        frames, pyramid, order, coarsest, image, shares, controls.contrast, strip
    )
    delivery = frames.delivery(sink)
    for begin in range(0, height, strip):
        end = min(begin + strip, height)
        target = delivery.target((end - begin, frames.width, frames.channels), frames.dtype)
        delivery.deliver(blender.rows(begin, end, target.permute(2, 0, 1)[None]))
        progress("writing", end, height)
    delivery.finish()


def _pixels(image: Tensor) -> NDArray[Any]:
    """Return ``(1, C, H, W)`` as an array ``(H, W, C)``."""
    return image[0].permute(1, 2, 0).contiguous().cpu().numpy()
