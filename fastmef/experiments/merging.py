"""Merge exposures of known exposure values to radiance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.data.extras import import_extra
from fastmef.data.srgb import srgb_decode
from fastmef.experiments.photographs import Image
from fastmef.experiments.scoring import stack
from fastmef.nn.network import FusionNet


def debevec(images: Sequence[Image], evs: Sequence[float]) -> NDArray[np.float64]:
    r"""Merge exposures as Debevec and Malik do, with the sRGB curve as the known response.

    .. math:: \ln E = \frac{\sum_k w(I_k) (\ln f^{-1}(I_k) - \ln t_k)}{\sum_k w(I_k)},
        \qquad w(z) = \min(z, 255 - z), \quad t_k = 2^{ev_k}

    for every channel. If all exposures are black or white, the darkest one is used if it is white,
    and the brightest one otherwise.

    Args:
        images: ``(H, W, 3)`` from dark to bright.
        evs: their exposure values in stops.

    Source: Debevec and Malik, SIGGRAPH 1997.
    """
    levels = np.float64(np.stack(images))
    weights = np.minimum(levels, 255 - levels)
    blind = weights.sum(axis=0) == 0
    white = levels[0] == 255
    weights[0] += blind & white
    weights[-1] += blind & ~white
    stops = np.log2(_response()[np.stack(images)]) - np.reshape(evs, (-1, 1, 1, 1))
    return np.float64(np.exp2((weights * stops).sum(axis=0) / weights.sum(axis=0)))


def opencv_debevec(images: Sequence[Image], evs: Sequence[float]) -> NDArray[np.float32]:
    """Return OpenCV's radiance ``(H, W, 3)``. Its weights of black and white are not 0.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = import_extra("cv2", "experiments", "merging exposures")
    response = np.repeat(_response()[:, None, None], 3, axis=2).astype(np.float32)
    times = np.array([2.0**ev for ev in evs], np.float32)
    return np.asarray(cv2.createMergeDebevec().process(list(images), times, response))


def _response() -> NDArray[np.float64]:
    """Return the linear light of every level, ``(256,)``; for black, of half a level, not of 0."""
    return np.float64(srgb_decode(np.maximum(np.arange(256), 0.5) / 255))


@torch.no_grad()
def merge_with_weights(
    images: Sequence[Image], evs: Sequence[float], network: FusionNet
) -> NDArray[np.float32]:
    r"""Return :math:`\sum_k W_k\, f^{-1}(I_k) / 2^{ev_k}` with the weights of a network.

    These weights are made for viewing: they include clipped pixels, which tell little about
    radiance.
    """
    weights = network(stack(images).float() / 255).weights[0].numpy()
    linear = [
        srgb_decode(np.float32(image / 255)) / 2**ev for image, ev in zip(images, evs, strict=True)
    ]
    return np.float32((weights[..., None] * np.stack(linear)).sum(axis=0))
