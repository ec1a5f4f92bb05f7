"""Batch normalisation with given statistics, ReLU, and the pool or upsampling after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef.reference.borders import repeat_border


def moments(images: Tensor) -> Tensor:
    r"""Return mean, biased variance and number of values of every channel, ``(3, C)``.

    ``images`` is ``(B, C, H, W)``.
    """
    mean = images.mean(dim=(0, 2, 3))
    variance = images.var(dim=(0, 2, 3), correction=0)
    count = torch.full_like(mean, images.numel() // images.shape[1])
    return torch.stack((mean, variance, count))


def norm_act(
    images: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    then: str = "",
) -> tuple[Tensor, Tensor]:
    r"""Normalise, scale, apply ReLU, and pool or upsample the result.

    .. math:: y = \max(0, \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta)

    Args:
        images: x, ``(B, C, H, W)``.
        mean, variance, weight, bias: μ, σ², γ, β, ``(C,)``; without γ and β they are 1 and 0.
        eps: ε.
        then: steps, with spaces between them: ``"pool"`` is the 2×2 maximum, ``"bilinear"`` is ×2
            upsampling, ``"border"`` repeats the border pixels once more on all sides. ``""`` is y
            again.

    Returns:
        y and the result of ``then``.
    """
    column = (1, -1, 1, 1)
    y = (images - mean.reshape(column)) * torch.rsqrt(variance + eps).reshape(column)
    if weight is not None:
        y = y * weight.reshape(column)
    if bias is not None:
        y = y + bias.reshape(column)
    y = y.relu()
    after = y
    for step in then.split():
        if step == "pool":
            after = F.max_pool2d(after, 2)
        elif step == "bilinear":
            after = F.interpolate(after, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            after = repeat_border(after, 1, 1, 1, 1)
    return y, after
