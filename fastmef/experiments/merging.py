"""Radiance from exposures of known exposure values."""

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


def debevec(images: Sequence[Image], evs: Sequence[float]) -> NDArray[np.float32]:
    """Return the radiance ``(H, W, 3)`` that OpenCV merges by Debevec and Malik's weights.

    The response is known here: that of sRGB, with half a level for black, whose logarithm it takes.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = import_extra("cv2", "experiments", "merging exposures")
    levels = np.maximum(np.arange(256), 0.5) / 255
    response = np.repeat(srgb_decode(levels)[:, None, None], 3, axis=2).astype(np.float32)
    times = np.array([2.0**ev for ev in evs], np.float32)
    return np.asarray(cv2.createMergeDebevec().process(list(images), times, response))


@torch.no_grad()
def by_weights(
    images: Sequence[Image], evs: Sequence[float], network: FusionNet
) -> NDArray[np.float32]:
    r"""Return :math:`\sum_k W_k\, f^{-1}(I_k) / 2^{ev_k}` with the weights of a network.

    The weights are for a picture to look at: they count clipped pixels, which say little of
    radiance.
    """
    weights = network(stack(images).float() / 255).weights[0].numpy()
    linear = [
        srgb_decode(np.float32(image / 255)) / 2**ev for image, ev in zip(images, evs, strict=True)
    ]
    return np.float32((weights[..., None] * np.stack(linear)).sum(axis=0))
