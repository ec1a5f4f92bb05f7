"""Measure how bright an image is, and how much of it is nearly white or nearly black.

The MEF-SSIM variant ``ma2015`` ignores brightness, and it does not penalise an area that is clipped
in every exposure, because no structure is lost there.
"""

from __future__ import annotations

from torch import Tensor

from fastmef.metrics._checks import check_images
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.mef_ssim import unit_range

WHITE_LEVEL = 250
"""Luma from which a pixel counts as nearly white, in 8-bit levels."""

BLACK_LEVEL = 5
"""Luma up to which a pixel counts as nearly black, in 8-bit levels."""


def brightness(images: Tensor) -> Tensor:
    r"""Return the mean luma in 8-bit levels, one value an image.

    .. math:: B = 255 \cdot \operatorname{mean}_p Y(p), \quad Y = 0.2989 R + 0.5870 G + 0.1140 B

    Args:
        images: RGB ``(..., 3, H, W)`` or grey ``(..., 1, H, W)``, uint8 or floating point in [0, 1]

    Returns:
        ``(...)`` in [0, 255]; float64 for uint8, float32 for half precision, else the same dtype.

    Raises:
        InputError: another shape or dtype.

    Example:
        >>> brightness(torch.full((3, 8, 8), 0.5))
        tensor(127.5000)
    """
    return _luma(images).mean(dim=(-2, -1))


def near_white(images: Tensor) -> Tensor:
    """Return the percentage of pixels with a luma of :data:`WHITE_LEVEL` or more, for each image.

    The luma is rounded to the nearest 8-bit level first. Arguments, dtypes and errors are those of
    :func:`brightness`.

    Example:
        >>> near_white(torch.tensor([255, 0, 0, 0], dtype=torch.uint8).expand(3, 1, 4)).item()
        25.0
    """
    luma = _luma(images)
    return 100 * (luma.round() >= WHITE_LEVEL).to(luma.dtype).mean(dim=(-2, -1))


def near_black(images: Tensor) -> Tensor:
    """Return the percentage of pixels with a luma of :data:`BLACK_LEVEL` or less, for each image.

    The luma is rounded to the nearest 8-bit level first. Arguments, dtypes and errors are those of
    :func:`brightness`.

    Example:
        >>> near_black(torch.tensor([255, 0, 0, 0], dtype=torch.uint8).expand(3, 1, 4)).item()
        75.0
    """
    luma = _luma(images)
    return 100 * (luma.round() <= BLACK_LEVEL).to(luma.dtype).mean(dim=(-2, -1))


def _luma(images: Tensor) -> Tensor:
    """Return the luma ``(..., H, W)`` in 8-bit levels, not rounded."""
    check_images(images)
    values = unit_range(images)
    return 255 * (rgb_to_gray(values) if values.shape[-3] == 3 else values.squeeze(-3))
