"""Fusion: the weighted sum of the exposures."""

from __future__ import annotations

import torch
from torch import Tensor


def softmax_fuse(logits: Tensor, exposures: Tensor) -> tuple[Tensor, Tensor]:
    r"""Convex combination :math:`F = \sum_k W_k I_k` with :math:`W = \mathrm{softmax}_k(x)`.

    ``logits`` is ``(B, K, H, W)``, ``exposures`` ``(B, K, C, H, W)``; returns the fused image
    ``(B, C, H, W)`` in the dtype of the exposures, integers rounded to the nearest, ties to even,
    and the weights ``(B, K, H, W)`` in the dtype of the logits. Sums are formed in float32, in
    float64 where either is float64.
    """
    in_double = torch.float64 in (logits.dtype, exposures.dtype)
    dtype = torch.float64 if in_double else torch.float32
    weights = torch.softmax(logits.to(dtype), dim=1)
    fused = (weights.unsqueeze(2) * exposures.to(dtype)).sum(dim=1)
    return _stored(fused, exposures.dtype), weights.to(logits.dtype)


def _stored(image: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return image.to(dtype)
    # A pixel that is not a number becomes 0.
    return image.nan_to_num(0.0).round().clamp(0, torch.iinfo(dtype).max).to(dtype)
