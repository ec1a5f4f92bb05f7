"""Shares of the frames of a bracket."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import check_float
from fastmef.reference import shares


@torch.no_grad()
def exposure_shares(base: Tensor) -> Tensor:
    r"""Return how much each frame of a bracket counts, whatever its length.

    .. math:: s_k = \frac{u_k}{\max(1, \sum_j u_j e^{-(d_{kj}/0.08)^2})}, \qquad
        d_{kj} = \operatorname{mean} |Y_k - Y_j|, \qquad u_k = \min(1, p_k / 0.002)

    with the luma Y of the frames reduced to 64×64 pixels, and p the share of pixels that are
    neither black (luma ≤ 4/255) nor white (≥ 251/255). Copies of a frame divide its share among
    themselves, so that a frame taken twice counts once and a bracket of 30 frames does not look
    different from the same one with 9; a frame that is all black or all white counts nothing.

    Args:
        base: ``(B, K, 3, h, w)``, floating point in [0, 1], of any size; a small one will do.

    Returns:
        ``(B, K)`` in the dtype of ``base``, from 0 to 1. No gradient flows through it.

    Raises:
        InputError: another shape or dtype.
    """
    check_float("base", base)
    if base.ndim != 5 or base.shape[2] != 3 or 0 in base.shape:
        raise InputError(f"base must be (B, K, 3, h, w) and not empty, got {tuple(base.shape)}")
    return shares.exposure_shares(base)
