"""Fusion: the weighted sum of the exposures."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_fuse(logits: Tensor, exposures: Tensor) -> tuple[Tensor, Tensor]:
    r"""Convex combination :math:`F = \sum_k W_k I_k` with :math:`W = \mathrm{softmax}_k(x)`.

    ``logits`` is ``(B, K, H, W)``, ``exposures`` ``(B, K, C, H, W)``; returns the fused image
    ``(B, C, H, W)`` and the weights ``(B, K, H, W)``.
    """
    weights = torch.softmax(logits, dim=1)
    return (weights.unsqueeze(2) * exposures).sum(dim=1), weights
