"""Compare with HDR images: PU21 encoding, PSNR and SSIM of it, response correction."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.data.extras import import_extra
from fastmef.functional import ssim

Radiance = NDArray[np.floating]

# Parameters of PU21, variant "banding + glare" (Mantiuk, Azimi, Picture Coding Symposium 2021).
_P = (0.353487901, 0.3734658629, 8.277049286e-05, 0.9062562627, 0.09150303166, 0.9099517204)
_SCALE = 596.3148142
DARKEST, BRIGHTEST = 0.005, 10_000.0
"""Range of luminance of the encoding in cd/m²; values beyond are clamped."""
PEAK = 256.0
"""The encoded value of 100 cd/m², which is the data range of PSNR and SSIM."""
# Luminance of linear sRGB, ITU-R BT.709.
_LUMINANCE = np.array([0.212656, 0.715158, 0.072186])


def encode(luminance: Radiance) -> NDArray[np.float64]:
    r"""Return perceptually uniform values of luminance in cd/m².

    .. math:: V = 596.3\left(\left(\frac{p_1 + p_2 Y^{p_4}}{1 + p_3 Y^{p_4}}\right)^{p_5}
        - p_6\right)
    """
    power = np.clip(np.float64(luminance), DARKEST, BRIGHTEST) ** _P[3]
    return _SCALE * (((_P[0] + _P[1] * power) / (1 + _P[2] * power)) ** _P[4] - _P[5])


def decode(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return luminance in cd/m², the inverse of :func:`encode`."""
    ratio = np.maximum(values / _SCALE + _P[5], 0) ** (1 / _P[4])
    return (np.maximum(ratio - _P[0], 0) / (_P[1] - _P[2] * ratio)) ** (1 / _P[3])


def luminance(rgb: Radiance) -> NDArray[np.float64]:
    """Return the luminance ``(H, W)`` of linear RGB ``(H, W, 3)``."""
    return np.float64(rgb) @ _LUMINANCE


def psnr(test: Radiance, reference: Radiance) -> float:
    """Return PU21-PSNR in dB of linear RGB in cd/m²."""
    error = np.square(encode(test) - encode(reference)).mean()
    return float(10 * np.log10(PEAK**2 / max(error, 1e-12)))


def similarity(test: Radiance, reference: Radiance) -> float:
    """Return PU21-SSIM of the luminance of linear RGB in cd/m²."""
    a, b = (torch.from_numpy(encode(luminance(image)))[None] for image in (test, reference))
    return float(ssim(a, b, data_range=PEAK))


def aligned(test: Radiance, reference: Radiance) -> NDArray[np.float64]:
    """Scale ``test`` to the median luminance of the reference."""
    middle = max(float(np.median(luminance(test))), 1e-12)
    return np.float64(test) * (float(np.median(luminance(reference))) / middle)


def corrected(test: Radiance, reference: Radiance) -> NDArray[np.float64]:
    """Apply the tone curve to ``test`` that brings it nearest to the reference.

    The curve maps luminance to PU21 values. It has the least squared error of all curves that never
    fall (isotonic regression). The ratios of R, G and B are kept. The remaining error cannot be
    removed by a tone curve.

    Source: after Hanji, Mantiuk, Eilertsen, Hajisharif, Unger, SIGGRAPH 2022. They fit polynomials
    of degree 3, which can fall and solarised fused pictures.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    optimize = import_extra("scipy.optimize", "experiments", "response correction")
    before = np.clip(luminance(test), DARKEST, BRIGHTEST)
    _, level, count = np.unique(before, return_inverse=True, return_counts=True)
    target = encode(luminance(reference)).ravel()
    means = np.bincount(level.ravel(), target) / count
    curve = optimize.isotonic_regression(means, weights=count).x
    after = decode(curve[level].reshape(before.shape))
    return np.float64(test) * (after / before)[..., None]
