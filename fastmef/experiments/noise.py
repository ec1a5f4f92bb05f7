"""A γ that subtracts the contrast of noise."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fastmef.data.render import srgb_encode
from fastmef.experiments.photographs import Image
from fastmef.functional import local_variance, sobel_gradient
from fastmef.reference.filters import window_filter

READ_NOISE = 0.02
"""Variance of read noise divided by that of shot noise at white."""

BINS = 16
FEWEST = 50
"""Least number of pixels for a separate estimate in a bin of brightness."""

# The difference of two Laplacians. Its response to white noise of standard deviation σ has standard
# deviation 6 σ; it does not respond to straight edges (Immerkær, CVIU 64(2), 1996).
_MASK = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
_MASK_GAIN = 6.0
# Texture only adds to the response, so a low quantile is closer to the noise than the median.
_QUANTILE = 0.25
_HALF_NORMAL = 0.31864  # this quantile of |x| for a standard normal x
_SOBEL_GAIN = 24.0  # sum of the squared taps of both Sobel kernels
_FLATTEST = 1e-6  # smallest squared gradient; it makes γ equal where there is only noise


def expose_with_noise(radiance: NDArray[np.float32], ev: float, noise: float, seed: int) -> Image:
    r"""Render one 8-bit exposure of linear radiance ``(H, W, 3)`` with shot and read noise.

    .. math:: I = \mathrm{round}(255 f(\min(\max(x + n, 0), 1))), \qquad x = 2^{ev} L,
        \qquad \operatorname{var} n = \sigma^2 (\min(x, 1) + 0.02)

    Args:
        radiance: linear light.
        ev: exposure value in stops.
        noise: σ, the standard deviation at white in linear light.
        seed: seed of the noise.
    """
    light = radiance * np.float32(2.0**ev)
    deviation = noise * np.sqrt(light.clip(0, 1) + READ_NOISE)
    light = light + np.random.default_rng(seed).standard_normal(light.shape, np.float32) * deviation
    return np.rint(255 * srgb_encode(light.clip(0, 1))).astype(np.uint8)


def noise_variance(planes: Tensor) -> Tensor:
    r"""Estimate the variance of noise at every pixel, as a function of brightness.

    .. math:: \sigma(b) = Q_{1/4}\{|I * M|(p) : \bar I(p) \in b\} / (6 \cdot 0.3186)

    where M is the difference of two Laplacians and b one of 16 bins of the mean over 5×5 pixels.

    Args:
        planes: grey exposures ``(B, K, H, W)`` in [0, 1].

    Returns:
        Variances of the same shape.
    """
    flat = planes.flatten(0, 1).unsqueeze(1)
    mask = torch.tensor(_MASK, dtype=planes.dtype, device=planes.device)[None, None]
    response = F.conv2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), mask).abs()
    brightness = F.avg_pool2d(F.pad(flat, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    index = (brightness * BINS).long().clamp(0, BINS - 1)
    variance = torch.zeros_like(flat)
    for plane, bins, out in zip(response, index, variance, strict=True):
        whole = plane.flatten().quantile(_QUANTILE)
        for each in range(BINS):
            inside = bins == each
            values = plane[inside]
            level = values.quantile(_QUANTILE) if values.numel() >= FEWEST else whole
            out[inside] = (level / (_MASK_GAIN * _HALF_NORMAL)) ** 2
    return variance.reshape(planes.shape)


def smooth_gamma(planes: Tensor) -> Tensor:
    r"""Return :math:`A = V \sqrt{w * S^2}`: variance × gradient, averaged over a window w."""
    return _attribute(planes, torch.zeros_like(planes))


def noise_aware_gamma(planes: Tensor) -> Tensor:
    r"""Return the attribute of γ without the contrast of the noise.

    .. math:: A = \max(V - n, 10^{-4}) \sqrt{\max(w * S^2 - 24 n, 10^{-6})}

    with n from :func:`noise_variance`, the window w of V, and the gain 24 of the Sobel operator.

    Args:
        planes: grey exposures ``(B, K, H, W)`` in [0, 1].
    """
    return _attribute(planes, noise_variance(planes))


def _attribute(planes: Tensor, noise: Tensor) -> Tensor:
    """Return the attribute of γ after subtracting the variance of the noise."""
    variance = local_variance(planes, floor=0, border="reflect") - noise
    squared = window_filter(sobel_gradient(planes).square(), border="reflect")
    return variance.clamp_min(1e-4) * (squared - _SOBEL_GAIN * noise).clamp_min(_FLATTEST).sqrt()
