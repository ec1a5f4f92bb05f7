"""Fuse exposures by a weighted sum."""

from __future__ import annotations

import torch
from torch import Tensor


def tempered_logits(logits: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """Divide by the temperature and set −∞ where an exposure is not valid but another one is."""
    if temperature != 1:
        logits = logits / temperature
    if valid is None:
        return logits
    return logits.masked_fill(~valid & valid.any(dim=1, keepdim=True), -torch.inf)


def softmax_fuse(
    logits: Tensor, exposures: Tensor, temperature: float = 1.0, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Compute :math:`F = \sum_k W_k I_k` with :math:`W = \mathrm{softmax}_k(x / T)`.

    ``logits`` is ``(B, K, H, W)``, ``exposures`` ``(B, K, C, H, W)``; returns the fused image
    ``(B, C, H, W)`` in the dtype and layout of the exposures, integers rounded to the nearest, ties
    to even, and the weights ``(B, K, H, W)`` in the dtype of the logits. Sums are formed in
    float32, in float64 where either is float64. Exposures that ``valid`` ``(B, K, H, W)`` excludes
    from a pixel weigh nothing there; where it excludes all of them it is ignored.
    """
    in_double = torch.float64 in (logits.dtype, exposures.dtype)
    dtype = torch.float64 if in_double else torch.float32
    weights = torch.softmax(tempered_logits(logits.to(dtype), temperature, valid), dim=1)
    fused = (weights.unsqueeze(2) * exposures.to(dtype)).sum(dim=1)
    return stored_like(fused, exposures), weights.to(logits.dtype)


def stored_like(image: Tensor, exposures: Tensor) -> Tensor:
    """Return ``(B, C, H, W)`` in the dtype and layout of exposures ``(B, K, C, H, W)``."""
    image = stored(image, exposures.dtype)
    channels = exposures.shape[2]
    if channels > 1 and exposures.stride(2) == 1 and exposures.stride(4) == channels:
        return image.movedim(1, -1).contiguous().movedim(-1, 1)
    return image


def stored(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``image`` in a storage dtype: integers are rounded to the nearest, ties to even."""
    if dtype.is_floating_point:
        return image.to(dtype)
    # NaN becomes 0.
    return image.nan_to_num(0.0).round().clamp(0, torch.iinfo(dtype).max).to(dtype)
