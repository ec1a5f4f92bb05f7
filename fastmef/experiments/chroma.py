"""Measure errors of colour independently of brightness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmef.data.extras import import_extra
from fastmef.data.srgb import srgb_encode
from fastmef.experiments.pu21 import luminance

GREY = 0.18
"""Luminance of middle grey, to which both colours are scaled."""

DARK = 0.01
"""Pixels with less luminance than this share of the reference's median are ignored, because their
colour is mostly noise."""


def chroma_difference(test: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the mean ΔE00 of two images, both scaled to the luminance of middle grey.

    Black pixels of ``test`` count as grey.

    Args:
        test: linear sRGB ``(H, W, 3)``, not negative, at any scale.
        reference: an image of the same kind.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    color = import_extra("skimage.color", "experiments", "ΔE00")
    bright = luminance(reference)
    seen = bright > DARK * np.median(bright)
    labs = [color.rgb2lab(_at_grey(image[seen])) for image in (test, reference)]
    return float(color.deltaE_ciede2000(*labs).mean())


def _at_grey(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale linear pixels ``(N, 3)`` to one luminance and encode them in sRGB.

    Strong colours exceed [0, 1].
    """
    bright = luminance(pixels)[:, None]
    linear = np.where(bright > 0, GREY * pixels / np.maximum(bright, 1e-12), GREY)
    return np.float64(srgb_encode(linear))
