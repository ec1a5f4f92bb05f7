"""Simple fusion methods for comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]


def as_tensor(*images: Image) -> Tensor:
    """Return the images as one tensor ``(K, 3, H, W)``, uint8."""
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])


def plain_mean(images: Sequence[Image]) -> Image:
    """Return the mean of the exposures, rounded to the nearest level."""
    return np.uint8(np.mean(images, axis=0) + 0.5)


def mertens(images: Sequence[Image]) -> Image | None:
    """Return OpenCV's exposure fusion with its defaults; ``None`` if OpenCV is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    fused = cv2.createMergeMertens().process([image[..., ::-1] for image in images])
    return np.uint8(np.clip(fused[..., ::-1] * 255 + 0.5, 0, 255))
