"""Restore colour that averaging has washed out, within the range of the exposures."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.reference.color import rgb_to_gray

# The relative colour of darker values is mostly sensor noise and is damped.
NOISE_FLOOR = 0.02
# The exponent of the trust in unclipped pixels: 1 - max^8 is 0.57 at level 230, 0.93 at level 183.
CLIPPING_EXPONENT = 8
# Trust in clipped pixels: it keeps the exposures' colours where all of them are clipped.
CLIPPED_TRUST = 1e-3


def restore_color(fused: Tensor, weights: Tensor, exposures: Tensor, strength: float) -> Tensor:
    r"""Restore the colour that a fused image lost by averaging exposures.

    A weighted sum of a dark, colourful and a bright, nearly white exposure is nearly white: the
    brighter one dominates the ratio of colour to luma, and a clipped one has lost the colour of
    the scene. There are two corrections, each with half the ``strength`` s: the relative colour
    moves towards the mean R of that of the unclipped exposures, and all colour is amplified.

    .. math::
        C = (1 - \tfrac{s}{2})\,(F - Y_F) + \tfrac{s}{2}\,(Y_F + \epsilon) R,
        \qquad R = \sum_k V_k \frac{I_k - Y_k}{Y_k + \epsilon},
        \quad V_k \propto W_k\,(1 - (\max_{rgb} I_k)^8)

    .. math:: F' = F + t\,\big(Y_F + (1 + \tfrac{s}{2})\,C - F\big)

    with the largest t ≤ 1 at each pixel that keeps every channel inside the range of the
    exposures there. Luma Y does not change, and neither do scores of grey images.

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
    # The loop handles one exposure at a time, so that memory does not grow with K.
    for k in range(exposures.shape[1]):
        image = exposures[:, k]
        gray = rgb_to_gray(image).unsqueeze(1)
        unclipped = 1 - image.amax(dim=1, keepdim=True) ** CLIPPING_EXPONENT + CLIPPED_TRUST
        trust = weights[:, k : k + 1] * unclipped
        relative += trust * (image - gray) / (gray + NOISE_FLOOR)
        total += trust
    own = (luma + NOISE_FLOOR) * relative / total.clamp_min(1e-12)
    color = torch.lerp(fused - luma, own, strength / 2)
    change = luma + (1 + strength / 2) * color - fused
    return move_within_range(fused, change, exposures)


def move_within_range(fused: Tensor, change: Tensor, exposures: Tensor) -> Tensor:
    """Return F + t · change with the largest t ≤ 1 at each pixel that keeps F within the range.

    The range is that of the exposures there, ``(B, K, 3, H, W)``. Channels of F that are already
    outside, as after a pyramid blend, are not moved further out.
    """
    up = (exposures.amax(dim=1) - fused).clamp_min(0)
    down = (fused - exposures.amin(dim=1)).clamp_min(0)
    room = torch.where(change > 0, up, down) / change.abs().clamp_min(1e-9)
    return fused + room.amin(dim=1, keepdim=True).clamp_max(1) * change
