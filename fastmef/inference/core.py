"""The fusion of one bracket of tensors: pyramid, network, descent, blend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef import functional
from fastmef.functional.multiscale import ExposurePyramid
from fastmef.inference.refine import refine_logits
from fastmef.inference.results import check_finite
from fastmef.nn.multiscale import COLOR, base_levels
from fastmef.nn.network import FusionNet
from fastmef.reference.multiscale import base_logits
from fastmef.reference.restoration import restore_color

STEPS = 20
# The descent starts with softer weights than the network's, nearer to the plain mean, which keeps
# more of the contrast between large areas.
SOFTER = 0.6
MARGIN = 8  # pixels of the base
# How far below white compression begins, in the base and in the result. What is white in every
# frame becomes level 246, so that overshoot of the bands does not make all of it nearly white.
WHITE = 1 / 16
KNEE = (1 / 128, WHITE)


@dataclass(frozen=True)
class Controls:
    """What a user can ask of a fusion; the defaults change nothing. See :func:`fastmef.fuse`."""

    color: float = COLOR
    contrast: float = 1.0
    brightness: float = 0.0
    refine: int = STEPS
    bias: Tensor | None = None
    """``(1, K)``, added to the logits."""
    valid: Tensor | None = None
    """bool ``(1, K, H, W)``."""
    weights: Tensor | None = None
    """``(1, K, h, w)``, instead of the network's."""


def fuse_any(network: FusionNet, exposures: Tensor, controls: Controls) -> tuple[Tensor, Tensor]:
    """Fuse with a network for any number of exposures.

    Args:
        exposures: ``(1, K, 3, H, W)``; uint8, uint16 or floating point in [0, 1].

    Returns:
        The fused image ``(1, 3, H, W)`` in dtype and layout of the exposures, and the weights
        ``(1, K, h, w)`` of the base.
    """
    levels = base_levels(*exposures.shape[-2:])
    pyramid = functional.exposure_pyramid(exposures, levels, controls.valid)
    base, validity = pyramid.base, pyramid.validity[-1] if pyramid.validity else None
    if validity is not None:
        base = _filled(base, validity)
    own_shares = shares = functional.exposure_shares(base)
    if controls.weights is None and not bool(own_shares.all()):
        return _fuse_informed(network, exposures, controls, own_shares[0] > 0)
    if controls.bias is not None:
        shares = own_shares * controls.bias.exp()
    if controls.weights is not None:
        logits = controls.weights.log()
    elif exposures.shape[1] == 1:
        logits = torch.zeros_like(base[:, :, 0])
    else:
        logits = _base_weights(network, base, own_shares, shares, validity, controls.refine)
    fused, weights = functional.softmax_fuse(logits, base, return_weights=True)
    check_finite(fused)
    if controls.color:
        fused = restore_color(fused, weights, base, controls.color)
    if controls.brightness:
        fused = fused.clamp(0, 1) ** 2**-controls.brightness
    fused = _below_white(fused)
    result = functional.multiscale_fuse(
        None,
        exposures,
        base=fused,
        pyramid=ExposurePyramid(base, pyramid.inner, pyramid.validity),
        shares=shares,
        contrast=controls.contrast,
        knee=KNEE,
        valid=controls.valid,
    )
    return result, weights


def _base_weights(
    network: FusionNet,
    base: Tensor,
    own_shares: Tensor,
    shares: Tensor,
    validity: Tensor | None,
    steps: int,
) -> Tensor:
    """Return the logits ``(1, K, h, w)`` of network and descent, made with a mirrored margin.

    Without it the zeros that ``mefnet`` has beyond the border would ask for brighter exposures
    along the frame.
    """
    rows, columns = (min(MARGIN, side - 1) for side in base.shape[-2:])
    wide = _mirrored(base, rows, columns)
    logits = network.logits(wide, own_shares)
    if steps:
        logits = SOFTER * logits
    if validity is not None:
        validity = _mirrored(validity.unsqueeze(2), rows, columns).squeeze(2)
    logits = refine_logits(base_logits(logits, shares, validity), wide, steps)
    height, width = base.shape[-2:]
    return logits[..., rows : rows + height, columns : columns + width].contiguous()


def _below_white(base: Tensor) -> Tensor:
    """Compress the base above 1 - h: y = x - t² / (2 h), t = max(x - 1 + h, 0), h = WHITE."""
    above = (base - (1 - WHITE)).clamp_min_(0)
    return base - above.square_().div_(2 * WHITE)


def _mirrored(stack: Tensor, rows: int, columns: int) -> Tensor:
    """Extend ``(1, K, C, h, w)`` by its mirror image on all four sides."""
    return F.pad(stack[0], (columns, columns, rows, rows), mode="reflect")[None]


def _fuse_informed(
    network: FusionNet, exposures: Tensor, controls: Controls, informed: Tensor
) -> tuple[Tensor, Tensor]:
    """Fuse without the exposures that are all black or all white; their weights are 0.

    The network and the bands give them no weight, but the loss of the descent would see them.
    """
    kept = exposures.permute(0, 1, 3, 4, 2)[:, informed].permute(0, 1, 4, 2, 3)
    bias = None if controls.bias is None else controls.bias[:, informed]
    valid = None if controls.valid is None else controls.valid[:, informed]
    fused, weights = fuse_any(network, kept, replace(controls, bias=bias, valid=valid))
    everyones = weights.new_zeros(1, len(informed), *weights.shape[2:])
    everyones[:, informed] = weights
    return fused, everyones


def fuse_fixed(network: FusionNet, exposures: Tensor, controls: Controls) -> tuple[Tensor, Tensor]:
    """Fuse with a network for a fixed number of exposures: the plain weighted sum at full size.

    Arguments and results are those of :func:`fuse_any`, with weights ``(1, K, H, W)``.
    """
    images = exposures
    if not exposures.is_floating_point():
        images = exposures.to(torch.float32) / torch.iinfo(exposures.dtype).max
    logits = network.logits(images.contiguous())
    fused, weights = functional.softmax_fuse(logits, images, return_weights=True)
    check_finite(fused)
    if controls.color:
        fused = restore_color(fused, weights, images, controls.color)
    if not exposures.is_floating_point():
        highest = torch.iinfo(exposures.dtype).max
        fused = (fused * highest).round_().clamp_(0, highest).to(exposures.dtype)
    return fused, weights


def _filled(base: Tensor, validity: Tensor) -> Tensor:
    """Give pixels of the base without a valid source the mean of the exposures that have one."""
    seen = (validity > 0).unsqueeze(2)
    mean = (base * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(seen, base, mean)
