"""Compute how much each frame of a bracket counts: copies share one vote, empty ones have 0."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef.reference.color import rgb_to_gray

THUMBNAIL = 64  # pixels
COPY_DISTANCE = 0.08  # mean absolute difference of luma
DARK, BRIGHT = 4 / 255, 251 / 255
INFORMED = 0.002  # fraction of pixels


def exposure_shares(base: Tensor) -> Tensor:
    """See :func:`fastmef.functional.exposure_shares`."""
    gray = rgb_to_gray(base)
    informed = ((gray > DARK) & (gray < BRIGHT)).to(gray.dtype).mean(dim=(-2, -1))
    weight = (informed / INFORMED).clamp_max(1)
    # If every frame is clipped, all of them count.
    weight = torch.where(weight.sum(dim=1, keepdim=True) > 0, weight, torch.ones_like(weight))
    size = min(THUMBNAIL, gray.shape[-2]), min(THUMBNAIL, gray.shape[-1])
    thumbnails = F.adaptive_avg_pool2d(gray, size).flatten(2)
    distance = (thumbnails.unsqueeze(2) - thumbnails.unsqueeze(1)).abs().mean(dim=-1)
    alike = torch.exp(-((distance / COPY_DISTANCE) ** 2))
    return weight / (alike * weight.unsqueeze(1)).sum(dim=-1).clamp_min(1)
