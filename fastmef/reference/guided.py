"""Fuse full-size exposures with logits of a smaller size, by the guided filter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef.reference.color import rgb_to_gray
from fastmef.reference.fusion import softmax_fuse
from fastmef.reference.resampling import resample


def luma_guide(exposures: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean luma of exposures ``(B, K, 3, H, W)`` in [0, 1], ``(B, 1, H, W)``.

    The mean has the edges of every exposure; a single exposure has none where it is clipped.
    """
    guide = rgb_to_gray(exposures.to(dtype)).mean(dim=1, keepdim=True)
    return guide if exposures.is_floating_point() else guide / torch.iinfo(exposures.dtype).max


def _plane_mean(images: Tensor) -> Tensor:
    """Return the mean of each plane as a mean of row means.

    PyTorch divides one large sum among threads, so that its rounding depends on their number.
    """
    return images.mean(dim=-1, keepdim=True).mean(dim=-2, keepdim=True)


def guided_coefficients(
    logits: Tensor, guide: Tensor, radius: int, eps: float
) -> tuple[Tensor, Tensor]:
    r"""Fit each logit by a linear function of the guide in every window.

    .. math:: a = \frac{\operatorname{cov}(g, x)}{\operatorname{var}(g) + \epsilon}, \quad
        b = \bar x - a \bar g

    ``logits`` is ``(B, K, h, w)``, ``guide`` ``(B, 1, h, w)``. The windows of ``2 radius + 1``
    pixels are flat and cropped at the border. Return a and b, ``(B, K, h, w)``, each averaged over
    the windows that contain a pixel.
    """

    def mean(images: Tensor) -> Tensor:
        return F.avg_pool2d(
            images, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False
        )

    # Constants are subtracted because differences of large products would lose precision.
    center, middle = _plane_mean(guide), _plane_mean(logits)
    g, x = guide - center, logits - middle
    mean_g, mean_x = mean(g), mean(x)
    variance = (mean(g * g) - mean_g * mean_g).clamp_min(0)
    a = (mean(g * x) - mean_g * mean_x) / (variance + eps)
    b = mean_x + middle - a * (mean_g + center)
    return mean(a), mean(b)


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge ``(..., h, w)`` to ``size`` bilinearly with ``align_corners=False``.

    ``F.interpolate`` is not used: its rounding depends on how it divides the work among threads.
    """
    for dim, count in zip((-2, -1), size, strict=True):
        length = images.shape[dim]
        position = torch.arange(count, dtype=torch.float64, device=images.device) + 0.5
        position = (position * (length / count) - 0.5).clamp(0, length - 1)
        before = position.floor().long()
        after = (before + 1).clamp_max(length - 1)
        fraction = (position - before).to(images.dtype)
        fraction = fraction if dim == -1 else fraction[:, None]
        low, high = images.index_select(dim, before), images.index_select(dim, after)
        images = low.mul_(1 - fraction).add_(high.mul_(fraction))
    return images


def guided_upsample_fuse(
    logits: Tensor, exposures: Tensor, radius: int = 2, eps: float = 1e-4
) -> Tensor:
    r"""Fuse ``exposures`` ``(B, K, 3, H, W)`` with ``logits`` ``(B, K, h, w)``.

    See :func:`fastmef.functional.guided_upsample_fuse`.
    """
    return softmax_fuse(guided_logits(logits, exposures, radius, eps), exposures)[0]


def guided_logits(logits: Tensor, exposures: Tensor, radius: int, eps: float) -> Tensor:
    """Enlarge ``logits`` ``(B, K, h, w)`` to the size of the exposures by the guided filter."""
    in_double = torch.float64 in (logits.dtype, exposures.dtype)
    dtype = torch.float64 if in_double else torch.float32
    guide = luma_guide(exposures, dtype)
    height, width = logits.shape[-2:]
    small = resample(F.adaptive_avg_pool2d, guide, (height, width))
    coefficients = guided_coefficients(logits.to(dtype), small, radius, eps)
    a, b = (resample(enlarge, x, guide.shape[-2:]) for x in coefficients)
    return a * guide + b
