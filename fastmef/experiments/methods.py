"""Fusion methods that an experiment does not train itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmef.data.extras import import_extra
from fastmef.experiments.photographs import Image
from fastmef.inference.fuse import fuse
from fastmef.inference.simple import mertens


def darkest(images: Sequence[Image]) -> Image:
    """Return the exposure with the lowest mean."""
    return min(images, key=lambda image: float(image.mean()))


def brightest(images: Sequence[Image]) -> Image:
    """Return the exposure with the highest mean."""
    return max(images, key=lambda image: float(image.mean()))


def opencv_mertens(images: Sequence[Image]) -> Image:
    """Return OpenCV's exposure fusion with its defaults.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    import_extra("cv2", "experiments", "Mertens fusion")
    return np.asarray(mertens(images))


def default(images: Sequence[Image]) -> Image:
    """Return the result of ``fastmef.fuse`` with its defaults."""
    return np.asarray(fuse(images))
