"""How colourful an image is: grey scores are blind to washed-out colour."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import check_dense
from fastmef.reference.mef_ssim import unit_range


def saturation(images: Tensor) -> Tensor:
    r"""Mean HSV saturation, one value an image.

    .. math:: S = \operatorname{mean}_p \frac{\max_c I_c(p) - \min_c I_c(p)}{\max_c I_c(p)}

    Args:
        images: ``(..., 3, H, W)``, uint8 or floating point in [0, 1]. Black pixels count 0.

    Returns:
        ``(...)`` in [0, 1]; float64 for uint8, float32 for half precision, else the same dtype.

    Raises:
        InputError: not RGB images.
    """
    check_dense("images", images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"images must be uint8 or floating point, got {images.dtype}")
    if images.ndim < 3 or images.shape[-3] != 3 or 0 in images.shape:
        raise InputError(f"images must be (..., 3, H, W) and not empty, got {tuple(images.shape)}")
    values = unit_range(images)
    largest, smallest = values.amax(dim=-3), values.amin(dim=-3)
    return ((largest - smallest) / torch.where(largest > 0, largest, 1.0)).mean(dim=(-2, -1))
