"""Fuse the small base of a bracket: network, descent on the loss, colour restoration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef import functional
from fastmef.inference.exposure_body import exposure_logits
from fastmef.inference.refine import refine_logits
from fastmef.inference.refine_color import refine_color
from fastmef.inference.results import check_finite
from fastmef.nn.multiscale import COLOR
from fastmef.nn.network import FusionNet
from fastmef.reference.multiscale import base_logits
from fastmef.reference.restoration import restore_color

STEPS = 50
# Factor of the network's logits before the descent. It starts nearer to the plain mean, which keeps
# more of the contrast between large areas.
SOFTER = 0.8
MARGIN = 14  # pixels of the base
# Distance from white at which compression begins, in the base and in the result. Areas that are
# white in every frame become level 246, so that overshoot of the bands does not push all of them to
# white.
WHITE = 1 / 16
KNEE = (1 / 128, WHITE)


@dataclass(frozen=True)
class Controls:
    """Options of the fusion of a base, for sorted exposures. See :func:`fastmef.fuse`."""

    color: float = COLOR
    contrast: float = 1.0
    brightness: float = 0.0
    refine: int = STEPS
    bias: Tensor | None = None
    """``(1, K)``, added to the logits."""
    weights: Tensor | None = None
    """``(1, K, h, w)``, used instead of the network's weights."""


class FusedBase(NamedTuple):
    """The fusion of the base."""

    image: Tensor
    """``(1, 3, h, w)``."""
    weights: Tensor
    """``(1, K, h, w)``."""
    shares: Tensor
    """``(1, K)``: how much each exposure counts in the bands."""


def informed_exposures(base: Tensor, controls: Controls) -> list[int]:
    """Return the indices of the exposures of the base that are not all black or all white.

    The network and the bands give the others no weight, but the loss of the descent would see them.
    All exposures are returned if weights were given or if none is left.
    """
    informed = functional.exposure_shares(base)[0] > 0
    if controls.weights is not None or not bool(informed.any()):
        return list(range(base.shape[1]))
    return informed.nonzero().flatten().tolist()


def fuse_base(
    network: FusionNet, base: Tensor, validity: Tensor | None, controls: Controls
) -> FusedBase:
    """Fuse the base with a network for any number of exposures.

    Args:
        base: ``(1, K, 3, h, w)``, floating point in [0, 1]; see :func:`fill_invalid`.
        validity: share of valid full-size pixels in each pixel of the base, ``(1, K, h, w)``.
    """
    own_shares = shares = functional.exposure_shares(base)
    if controls.bias is not None:
        shares = own_shares * controls.bias.exp()
    if controls.weights is not None:
        logits = controls.weights.log()
    elif base.shape[1] == 1:
        logits = torch.zeros_like(base[:, :, 0])
    else:
        logits = _base_weights(network, base, own_shares, shares, validity, controls.refine)
    fused, weights = functional.softmax_fuse(logits, base, return_weights=True)
    check_finite(fused)
    if controls.color:
        fused = restore_color(fused, weights, base, controls.color)
        if base.shape[1] > 1 and controls.refine:
            fused = refine_color(fused, base)
    if controls.brightness:
        fused = fused.clamp(0, 1) ** 2**-controls.brightness
    return FusedBase(_below_white(fused), weights, shares)


def _base_weights(
    network: FusionNet,
    base: Tensor,
    own_shares: Tensor,
    shares: Tensor,
    validity: Tensor | None,
    steps: int,
) -> Tensor:
    """Return the logits ``(1, K, h, w)`` after network and descent.

    Both run on the base with a mirrored margin. Without it, pixels at the border would be in few
    windows of the loss.
    """
    rows, columns = (min(MARGIN, side - 1) for side in base.shape[-2:])
    wide = _mirrored(base, rows, columns)
    logits = exposure_logits(network, wide, own_shares)
    if steps:
        logits = SOFTER * logits
    if validity is not None:
        validity = _mirrored(validity.unsqueeze(2), rows, columns).squeeze(2)
    logits = refine_logits(base_logits(logits, shares, validity), wide, own_shares, steps)
    height, width = base.shape[-2:]
    return logits[..., rows : rows + height, columns : columns + width].contiguous()


def _below_white(base: Tensor) -> Tensor:
    """Compress the base above 1 - h: y = x - t² / (2 h), t = max(x - 1 + h, 0), h = WHITE."""
    above = (base - (1 - WHITE)).clamp_min_(0)
    return base - above.square_().div_(2 * WHITE)


def _mirrored(stack: Tensor, rows: int, columns: int) -> Tensor:
    """Extend ``(1, K, C, h, w)`` by its mirror image on all four sides."""
    return F.pad(stack[0], (columns, columns, rows, rows), mode="reflect")[None]


def fill_invalid(base: Tensor, validity: Tensor) -> Tensor:
    """Fill pixels of the base without valid sources with the mean of the valid exposures.

    Args:
        base: ``(1, K, C, h, w)``.
        validity: ``(1, K, h, w)``, 0 where a pixel has no valid source.
    """
    seen = (validity > 0).unsqueeze(2)
    mean = (base * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(seen, base, mean)
