"""Check the images that the measures of colour and brightness take."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import check_dense


def check_images(images: Tensor) -> None:
    """Refuse anything but ``(..., 3, H, W)`` and ``(..., 1, H, W)`` in uint8 or floating point."""
    check_dense("images", images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"images must be uint8 or floating point, got {images.dtype}")
    if images.ndim < 3 or images.shape[-3] not in (1, 3) or 0 in images.shape:
        raise InputError(
            "images must be (..., 3, H, W), or grey (..., 1, H, W), and not empty, "
            f"got {tuple(images.shape)}"
        )
