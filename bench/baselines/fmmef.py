r"""FMMEF, the strongest method without training: multi-scale structural patch decomposition.

H. Li, K. Ma, H. Yong, L. Zhang, "Fast Multi-Scale Structural Patch Decomposition for
Multi-Exposure Image Fusion", IEEE Transactions on Image Processing 29, 2020; its method for static
scenes.

With the mean :math:`\mu_k` and the signal strength :math:`c_k = \lVert x_k - \mu_k \rVert` of the
9×9 window around a pixel, and the mean :math:`\langle\cdot\rangle` over such a window, the detail
of one scale is

.. math::
    D = \sum_k \langle w_k \rangle\, x_k - \langle w_k \mu_k \rangle, \qquad
    w_k = \frac{\max_j c_j \; c_k^{p-1}}{\sum_j c_j^p}, \quad p = 4.

This is the strength of the strongest exposure times the weighted mean of the unit structures
:math:`(x_k - \mu_k) / c_k`, aggregated over all windows that contain the pixel. The exposures of
the next scale are every second row and column of the means :math:`\mu_k`, without colour. The base
below the coarsest detail is

.. math::
    B = \sum_k \langle v_k \mu_k \rangle, \qquad
    v_k \propto |\nabla^2 x_k| \cdot \tfrac{2}{\pi} \arctan\big(20 \min(x_k, 1 - x_k)\big)

Each finer scale adds its detail to the upsampled result of the coarser ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS = 4
POWER = 4
_TINY = 1e-12

Image = NDArray[np.uint8]
Plane = NDArray[np.float64]


def fmmef(images: Sequence[Image]) -> Image:
    """Fuse two or more aligned RGB exposures ``(H, W, 3)``, uint8, to an image of the same kind."""
    exposures = [image / 255 for image in images]
    detail, means = _detail(exposures)
    details = [detail]
    for _ in range(_intermediate_scales(*images[0].shape[:2])):
        detail, means = _detail(_halve(means))
        details.append(detail)
    coarsest = _halve(means)
    detail, means = _detail(coarsest)
    fused = detail + _base(coarsest, means)
    for detail in details[:0:-1]:
        fused = _enlarge(fused, detail.shape) + detail
    fused = _enlarge(fused, images[0].shape[:2])[..., None] + details[0]
    return np.uint8(np.clip(fused * 255 + 0.5, 0, 255))


def _intermediate_scales(height: int, width: int) -> int:
    """Return how many scales lie between the finest and the coarsest."""
    return max(0, int(np.log2(min(height, width))) - 5)


def _detail(exposures: Sequence[Plane]) -> tuple[Plane, list[Plane]]:
    """Return the fused detail of one scale, and the local means ``(H, W)`` of the exposures.

    ``exposures`` are ``(H, W, 3)`` or ``(H, W)``, and so is the detail.
    """
    means, strengths = [], []
    for exposure in exposures:
        channels = exposure.reshape(*exposure.shape[:2], -1)
        mean = _box(channels.mean(axis=2))
        variance = _box((channels**2).mean(axis=2)) - mean**2
        numbers = channels.shape[2] * (2 * RADIUS + 1) ** 2  # values in a window
        means.append(mean)
        strengths.append(np.sqrt(np.maximum(variance, 0) * numbers) + _TINY)
    strongest = np.max(strengths, axis=0)
    total = sum(strength**POWER + _TINY for strength in strengths)
    detail = np.zeros_like(exposures[0])
    for exposure, mean, strength in zip(exposures, means, strengths, strict=True):
        weight = strongest * strength ** (POWER - 1) / total
        # The same plane weights all channels of a colour image.
        gain, offset = (
            plane.reshape(*plane.shape, *[1] * (exposure.ndim - 2))
            for plane in (_box(weight), _box(weight * mean))
        )
        detail += gain * exposure - offset
    return detail, means


def _base(exposures: Sequence[Plane], means: Sequence[Plane]) -> Plane:
    """Return the fused base of the coarsest scale."""
    weights = []
    for exposure in exposures:
        contrast = np.abs(cv2.Laplacian(exposure, cv2.CV_64F, borderType=cv2.BORDER_REPLICATE))
        distance = np.minimum(exposure, 1 - exposure)  # to black or white
        weights.append(contrast * (2 / np.pi) * np.arctan(20 * distance) + _TINY)
    total = np.sum(weights, axis=0)
    return sum(_box(mean * weight / total) for mean, weight in zip(means, weights, strict=True))


def _box(plane: Plane) -> Plane:
    """Return the mean over the part of the window that lies inside the image."""
    return _window_sum(plane) / _window_sum(np.ones_like(plane))


def _window_sum(plane: Plane) -> Plane:
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    return cv2.boxFilter(plane, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)


def _halve(planes: Sequence[Plane]) -> list[Plane]:
    """Return every second row and column; the planes are window means, so this does not alias."""
    return [np.ascontiguousarray(plane[::2, ::2]) for plane in planes]


def _enlarge(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """Upsample by a factor of 2 with the mean of the samples in the window around each pixel."""
    samples, counts = np.zeros(shape), np.zeros(shape)
    samples[::2, ::2] = plane
    counts[::2, ::2] = 1
    return _window_sum(samples) / _window_sum(counts)
