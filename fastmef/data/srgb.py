"""The sRGB transfer function for NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def srgb_encode(linear: NDArray[np.floating]) -> NDArray[np.floating]:
    r"""Encode linear light with the sRGB transfer function (IEC 61966-2-1).

    :math:`V = 12.92\,L` for :math:`L \le 0.0031308`, else :math:`1.055\,L^{1/2.4} - 0.055`

    Args:
        linear: floating point, >= 0, any shape.

    Returns:
        An array of the same shape and dtype; 0 and 1 are unchanged.
    """
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_decode(encoded: NDArray[np.floating]) -> NDArray[np.floating]:
    r"""Decode sRGB values to linear light, the inverse of :func:`srgb_encode`.

    :math:`L = V / 12.92` for :math:`V \le 0.04045`, else :math:`((V + 0.055) / 1.055)^{2.4}`

    Args:
        encoded: floating point, >= 0, any shape.

    Returns:
        An array of the same shape and dtype.
    """
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
