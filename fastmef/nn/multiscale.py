"""The fusion core: a network weights a small base, local variance weights the finer bands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from fastmef import functional
from fastmef.functional.multiscale import ExposurePyramid
from fastmef.reference.multiscale import base_logits
from fastmef.reference.pyramid import halved_size, halvings_above
from fastmef.reference.restoration import restore_color

BASE_PIXELS = 64_000
COLOR = 0.5


def base_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the base: those of the images, or about :data:`BASE_PIXELS`.

    The scale has no jumps: an image with a few rows more has nearly the same base.
    """
    levels = 0
    while math.prod(halved_size((height, width), levels)) >= 4 * BASE_PIXELS:
        levels += 1
    size = halved_size((height, width), levels)
    ratio = math.sqrt(math.prod(size) / BASE_PIXELS)
    if ratio <= 1:
        return size
    short = max(1, round(min(size) / ratio))
    long = min(max(size), round(BASE_PIXELS / short))
    return (short, long) if height <= width else (long, short)


def base_levels(height: int, width: int) -> int:
    """Return how many halvings leave images at least as large as their base."""
    return halvings_above((height, width), base_size(height, width))


def fuse_base(logits: Tensor, base: Tensor, shares: Tensor | None, color: float) -> Tensor:
    """Fuse the base ``(B, K, 3, h, w)`` with softmax weights and restore its washed-out colour."""
    fused, weights = functional.softmax_fuse(
        base_logits(logits, shares, None), base, return_weights=True
    )
    return restore_color(fused, weights, base, color) if color else fused


def blend(
    logits: Tensor,
    exposures: Tensor,
    pyramid: ExposurePyramid,
    shares: Tensor | None = None,
    color: float = COLOR,
    contrast: float | Sequence[float] = 1.0,
) -> Tensor:
    """Fuse ``exposures`` ``(B, K, 3, H, W)`` with logits ``(B, K, h, w)`` of the pyramid's base.

    The result is differentiable w.r.t. the logits; see :func:`fastmef.functional.multiscale_fuse`
    and :func:`fastmef.reference.restoration.restore_color`.
    """
    base = fuse_base(logits, pyramid.base, shares, color)
    return functional.multiscale_fuse(
        None, exposures, base=base, pyramid=pyramid, shares=shares, contrast=contrast
    )
