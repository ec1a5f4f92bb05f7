r"""Encode scene-linear radiance for the fusion, and decode the result.

The network, like every method of exposure fusion, takes display-referred images: values from 0
(black) to 1 (white) that follow the sRGB transfer function. Radiance :math:`L` from OpenEXR and
Radiance HDR files is therefore encoded when it is read and decoded when it is written,

.. math:: V = \mathrm{srgb}(s\,\max(L, 0)), \qquad L = \mathrm{srgb}^{-1}(V) / s

All frames of a bracket have the same scale *s*, so the differences between them remain. Values
above 1 are kept in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.srgb import srgb_decode, srgb_encode

_WHITE_PERCENTILE = 99.9  # brighter pixels are lamps and reflections
_SAMPLED_SIDE = 512  # rows and columns that are sampled


def exposure_scale(frames: Sequence[NDArray[np.floating]]) -> float:
    """Return the scale that makes the brightest frame's white 1.

    White is the 99.9th percentile of the largest channel. Frames that a raw converter has clipped
    at 1 therefore get the scale 1.

    Args:
        frames: ``(H, W, C)``, scene-linear.
    """
    whites = [0.0]
    for frame in frames:
        down, across = (-(-side // _SAMPLED_SIDE) for side in frame.shape[:2])
        brightest = frame[::down, ::across].max(axis=2)
        whites.append(float(np.percentile(brightest, _WHITE_PERCENTILE)))
    white = max(whites)
    return 1.0 / white if white > 0 else 1.0


def encode_radiance(radiance: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Return scene-linear radiance as display-referred values; negative ones become 0."""
    light = np.maximum(radiance, 0).astype(np.float32) * np.float32(scale)
    return srgb_encode(light).astype(np.float32, copy=False)


def decode_radiance(encoded: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Return display-referred values as scene-linear radiance."""
    values = np.maximum(encoded, 0).astype(np.float32)
    return (srgb_decode(values) / np.float32(scale)).astype(np.float32, copy=False)
