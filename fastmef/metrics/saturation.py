"""Measure how colourful an image is, because grey scores do not see washed-out colour."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.metrics._checks import check_images
from fastmef.reference.mef_ssim import unit_range


def saturation(images: Tensor) -> Tensor:
    r"""Return the mean HSV saturation, one value an image.

    .. math:: S = \operatorname{mean}_p \frac{\max_c I_c(p) - \min_c I_c(p)}{\max_c I_c(p)}

    Args:
        images: RGB ``(..., 3, H, W)``, or grey ``(..., 1, H, W)``, which has a saturation of 0;
            uint8 or floating point in [0, 1]. Black pixels count 0.

    Returns:
        ``(...)`` in [0, 1]; float64 for uint8, float32 for half precision, else the same dtype.

    Raises:
        InputError: another shape or dtype.

    Example:
        >>> saturation(torch.tensor([0.8, 0.4, 0.4]).reshape(3, 1, 1))
        tensor(0.5000)
    """
    check_images(images)
    values = unit_range(images)
    largest, smallest = values.amax(dim=-3), values.amin(dim=-3)
    return ((largest - smallest) / torch.where(largest > 0, largest, 1.0)).mean(dim=(-2, -1))
