"""Cut perspective views from a 360-degree equirectangular panorama."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmef.errors import InputError


def perspective_view(
    panorama: NDArray[np.floating],
    yaw: float,
    pitch: float,
    fov: float,
    width: int,
    height: int,
) -> NDArray[np.floating]:
    r"""Return the image of a pinhole camera at the centre of a panorama.

    The axes are x right, y up, z towards the centre of the panorama. Pixel :math:`(i, j)` of the
    view looks along the ray

    :math:`r = R_y(yaw)\,R_x(pitch)\,(j + \tfrac12 - \tfrac{w}{2},\;
    \tfrac{h}{2} - i - \tfrac12,\; f), \quad f = \frac{w}{2 \tan(fov / 2)}`

    Its longitude :math:`\lambda = \mathrm{atan2}(r_x, r_z)` and latitude
    :math:`\varphi = \mathrm{atan2}(r_y, \sqrt{r_x^2 + r_z^2})` give the position in the panorama

    :math:`v = \big(\tfrac12 - \tfrac{\varphi}{\pi}\big) H - \tfrac12, \qquad
    u = \big(\tfrac12 + \tfrac{\lambda}{2\pi}\big) W - \tfrac12`

    which is read with bilinear interpolation. Columns wrap around. Beyond the first and the last
    row, the position continues across the pole, half a turn further. A view that is much coarser
    than the panorama aliases: cut a larger view and average it down.

    Args:
        panorama: (H, W, C), floating point. It covers the whole sphere: the first row lies around
            the zenith, the middle column straight ahead.
        yaw: degrees, positive turns right.
        pitch: degrees, positive looks up.
        fov: horizontal field of view in degrees, between 0 and 180.
        width: columns of the view.
        height: rows of the view.

    Returns:
        (height, width, C) in the dtype of the panorama.

    Raises:
        InputError: the panorama has another shape or dtype, or an angle or size is out of range.

    Example:
        >>> import numpy as np
        >>> view = perspective_view(np.ones((8, 16, 3)), yaw=30, pitch=0, fov=90, width=6, height=4)
        >>> view.shape
        (4, 6, 3)
    """
    panorama = np.asarray(panorama)
    if panorama.ndim != 3 or panorama.size == 0:
        raise InputError(f"panorama must have the shape (H, W, C), got {panorama.shape}")
    if not np.issubdtype(panorama.dtype, np.floating):
        raise InputError(f"panorama must be floating point, got {panorama.dtype}")
    if not 0 < fov < 180:
        raise InputError(f"fov must lie between 0 and 180 degrees, got {fov:g}")
    if not np.isfinite([yaw, pitch]).all():
        raise InputError(f"yaw and pitch must be finite, got {yaw:g} and {pitch:g}")
    if width < 1 or height < 1:
        raise InputError(f"width and height must be at least 1, got {width} and {height}")

    right, up, ahead = _rays(np.radians(yaw), np.radians(pitch), np.radians(fov), width, height)
    longitude = np.arctan2(right, ahead)
    latitude = np.arctan2(up, np.hypot(right, ahead))
    rows, columns = panorama.shape[:2]
    v = (0.5 - latitude / np.pi) * rows - 0.5
    u = (0.5 + longitude / (2 * np.pi)) * columns - 0.5
    return _read(panorama, v, u)


def _rays(
    yaw: float, pitch: float, fov: float, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions (right, up, ahead) of the view's pixels, arrays that broadcast."""
    x = (np.arange(width) + 0.5 - width / 2)[None, :]
    y = (height / 2 - np.arange(height) - 0.5)[:, None]
    focal = width / (2 * np.tan(fov / 2))
    up = y * np.cos(pitch) + focal * np.sin(pitch)
    level = focal * np.cos(pitch) - y * np.sin(pitch)
    right = x * np.cos(yaw) + level * np.sin(yaw)
    ahead = level * np.cos(yaw) - x * np.sin(yaw)
    return right, up, ahead


def _read(
    panorama: NDArray[np.floating], v: NDArray[np.float64], u: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Read bilinearly at rows v in [-1/2, H - 1/2] and any columns u, both (h, w)."""
    top = np.floor(v).astype(np.intp)
    weight = (v - top).astype(panorama.dtype)[..., None]
    return _read_rows(panorama, top, u) * (1 - weight) + _read_rows(panorama, top + 1, u) * weight


def _read_rows(
    panorama: NDArray[np.floating], row: NDArray[np.intp], u: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Read linearly at columns u of whole rows; rows -1 and H lie across a pole."""
    rows, columns = panorama.shape[:2]
    u = np.where((row < 0) | (row >= rows), u + columns / 2, u)
    row = np.clip(row, 0, rows - 1)
    left = np.floor(u).astype(np.intp)
    weight = (u - left).astype(panorama.dtype)[..., None]
    left, right = left % columns, (left + 1) % columns
    return panorama[row, left] * (1 - weight) + panorama[row, right] * weight
