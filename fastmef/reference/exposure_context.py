"""Mean and maximum over exposures of the features of a network."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def exposure_context(frames: Sequence[Tensor], parts: Sequence[float]) -> Tensor:
    r"""Return :math:`[\sum_k p_k x_k, \max_k x_k]`.

    Args:
        frames: :math:`x_k`, each ``(1, C, H, W)``, of one floating-point dtype.
        parts: :math:`p_k`, one number for each frame.

    Returns:
        ``(1, 2 C, H, W)`` in the dtype of the frames; sums are formed at least in float32.
    """
    dtype = torch.promote_types(frames[0].dtype, torch.float32)
    mean = torch.zeros_like(frames[0], dtype=dtype)
    for frame, part in zip(frames, parts, strict=True):
        mean += part * frame.to(dtype)
    return torch.cat((mean.to(frames[0].dtype), functools.reduce(torch.maximum, frames)), dim=1)
