"""Colour that averaging has washed out, given back inside the range of the exposures."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.reference.color import rgb_to_gray

# Relative colour of values below this is mostly sensor noise and is damped.
NOISE_FLOOR = 0.05
# How steeply a channel counts as clipped: 1 - max^8 is 0.57 at level 230 and 0.93 at level 183.
CLIPPING_POWER = 8


def restore_color(fused: Tensor, weights: Tensor, exposures: Tensor, strength: float) -> Tensor:
    r"""Move the relative colour of a fusion towards that of its unclipped exposures.

    A weighted sum of a dark, colourful and a bright, nearly white exposure is nearly white: the
    brighter one dominates the ratio of colour to luma, and a clipped one has lost the colour of
    the scene. The luma Y of the fusion stays; its relative colour becomes, for ``strength`` s = 1,
    the mean of the exposures' own relative colours:

    .. math::
        F' = Y_F + (Y_F + \epsilon) \sum_k V_k \frac{I_k - Y_k}{Y_k + \epsilon},
        \qquad V_k \propto W_k\,(1 - (\max_{rgb} I_k)^8), \qquad F_s = (1 - s) F + s F'

    and every value is clamped to the range of the exposures at its pixel (widened to F, which a
    pyramid blend may have put outside).

    Args:
        fused: ``(B, 3, H, W)``.
        weights: W, ``(B, K, H, W)``.
        exposures: I, ``(B, K, 3, H, W)`` in [0, 1].
        strength: s, from 0 (nothing changes) to 1.

    Returns:
        ``(B, 3, H, W)``.
    """
    luma = rgb_to_gray(fused).unsqueeze(1)
    relative = torch.zeros_like(fused)
    total = torch.zeros_like(luma)
    # One exposure at a time: memory is that of a few images, whatever K.
    for k in range(exposures.shape[1]):
        image = exposures[:, k]
        gray = rgb_to_gray(image).unsqueeze(1)
        # Where all exposures are clipped the small constant leaves their own colours.
        unclipped = 1 - image.amax(dim=1, keepdim=True) ** CLIPPING_POWER + 1e-3
        trust = weights[:, k : k + 1] * unclipped
        relative += trust * (image - gray) / (gray + NOISE_FLOOR)
        total += trust
    colored = luma + (luma + NOISE_FLOOR) * relative / total.clamp_min(1e-12)
    mixed = torch.lerp(fused, colored, strength)
    low = torch.minimum(exposures.amin(dim=1), fused)
    high = torch.maximum(exposures.amax(dim=1), fused)
    return mixed.clamp(low, high)
