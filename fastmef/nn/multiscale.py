"""The fusion core: a network weights a small base, local variance the finer bands of detail."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from fastmef import functional
from fastmef.functional.multiscale import ExposurePyramid
from fastmef.reference.multiscale import base_logits
from fastmef.reference.restoration import restore_color

BASE_PIXELS = 64_000
COLOR = 0.5


def base_levels(height: int, width: int) -> int:
    """Return how many halvings lead to about :data:`BASE_PIXELS` pixels."""
    return max(0, round(math.log2(height * width / BASE_PIXELS) / 2))


def fuse_base(logits: Tensor, base: Tensor, shares: Tensor | None, color: float) -> Tensor:
    """Return the convex sum of the base ``(B, K, 3, h, w)``, its washed-out colour restored."""
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
    """Fuse ``exposures`` ``(B, K, 3, H, W)`` by logits ``(B, K, h, w)`` on the pyramid's base.

    Differentiable w.r.t. the logits; see :func:`fastmef.functional.multiscale_fuse` and
    :func:`fastmef.reference.restoration.restore_color`.
    """
    base = fuse_base(logits, pyramid.base, shares, color)
    return functional.multiscale_fuse(
        None, exposures, base=base, pyramid=pyramid, shares=shares, contrast=contrast
    )
