"""The share of each frame of a bracket in the fusion."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import check_float
from fastmef.functional._images import to_channels
from fastmef.reference import shares


@torch.no_grad()
def exposure_shares(base: Tensor) -> Tensor:
    r"""Return how much each frame of a bracket counts, for any number of frames.

    .. math:: s_k = \frac{u_k}{\max(1, \sum_j u_j e^{-(d_{kj}/0.08)^2})}, \qquad
        d_{kj} = \operatorname{mean} |Y_k - Y_j|, \qquad u_k = \min(1, p_k / 0.002)

    with the luma Y of the frames reduced to 64×64 pixels, and p the share of pixels that are
    neither black (luma ≤ 4/255) nor white (≥ 251/255). Copies of a frame divide its share among
    themselves: a frame that was taken twice counts once, and a bracket of 30 frames looks like the
    same bracket with 9. A frame that is all black or all white has a share of 0.

    Args:
        base: ``(B, K, 3, h, w)``, or grey ``(B, K, h, w)`` or ``(B, K, 1, h, w)``; floating point
            in [0, 1], of any size: a small one is enough.

    Returns:
        ``(B, K)`` in the dtype of ``base``, from 0 to 1. No gradient flows through it.

    Raises:
        InputError: another shape or dtype.

    Source: this package.

    Example:
        >>> frame = torch.rand(1, 1, 3, 16, 16)
        >>> exposure_shares(torch.cat((frame, frame, frame / 4), dim=1))
        tensor([[0.5000, 0.5000, 1.0000]])
    """
    check_float("base", base)
    fits = base.ndim == 4 or (base.ndim == 5 and base.shape[2] in (1, 3))
    if not fits or 0 in base.shape:
        raise InputError(
            "base must be (B, K, 3, h, w), or grey (B, K, h, w) or (B, K, 1, h, w), and not empty, "
            f"got {tuple(base.shape)}"
        )
    stack = to_channels(base, 4)
    return shares.exposure_shares(stack.expand(-1, -1, 3, -1, -1))
