"""Colour that averaging has washed out, given back inside the range of the exposures."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.reference.color import rgb_to_gray

# Relative colour of values below this is mostly sensor noise and is damped.
NOISE_FLOOR = 0.02
# How steeply a channel counts as clipped: 1 - max^8 is 0.57 at level 230 and 0.93 at level 183.
CLIPPING_POWER = 8


def restore_color(fused: Tensor, weights: Tensor, exposures: Tensor, strength: float) -> Tensor:
    r"""Give a fusion back the colour that averaging exposures takes from it.

    A weighted sum of a dark, colourful and a bright, nearly white exposure is nearly white: the
    brighter one dominates the ratio of colour to luma, and a clipped one has lost the colour of
    the scene. Two corrections, both at half of ``strength`` s: the relative colour moves towards
    the mean R of the unclipped exposures' own, and all colour is raised a little.

    .. math::
        C = (1 - \tfrac{s}{2})\,(F - Y_F) + \tfrac{s}{2}\,(Y_F + \epsilon) R,
        \qquad R = \sum_k V_k \frac{I_k - Y_k}{Y_k + \epsilon},
        \quad V_k \propto W_k\,(1 - (\max_{rgb} I_k)^8)

    .. math:: F' = F + t\,\big(Y_F + (1 + \tfrac{s}{2})\,C - F\big)

    with the largest t ≤ 1 at each pixel that keeps every channel inside the range of the
    exposures there. Luma Y stays as it is, so scores on grey images do too.

    Args:
        fused: F, ``(B, 3, H, W)``.
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
    own = (luma + NOISE_FLOOR) * relative / total.clamp_min(1e-12)
    color = torch.lerp(fused - luma, own, strength / 2)
    change = luma + (1 + strength / 2) * color - fused
    # A pyramid blend may have put F itself outside the range; it is not moved further out.
    up = (exposures.amax(dim=1) - fused).clamp_min(0)
    down = (fused - exposures.amin(dim=1)).clamp_min(0)
    room = torch.where(change > 0, up, down) / change.abs().clamp_min(1e-9)
    return fused + room.amin(dim=1, keepdim=True).clamp_max(1) * change
