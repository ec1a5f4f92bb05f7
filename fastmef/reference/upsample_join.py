"""Bilinear upsampling by 2 of features with a margin, joined with other features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_join(features: Tensor, skipped: Tensor) -> Tensor:
    """Double features bilinearly and append the channels of ``skipped``.

    The margin of features is one pixel, which repeats the border. So is that of the result.

    Args:
        features: ``(1, C, H + 2, W + 2)``, floating point.
        skipped: ``(1, S, 2 H + 2, 2 W + 2)`` in the same dtype.

    Returns:
        ``(1, C + S, 2 H + 2, 2 W + 2)``.
    """
    doubled = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat((doubled[..., 1:-1, 1:-1], skipped), dim=1)
