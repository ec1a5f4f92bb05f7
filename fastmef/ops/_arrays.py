"""Tensors as the compiled module takes them: addresses, strides, window taps."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from fastmef.reference.filters import _taps, effective_window

Stack: TypeAlias = tuple[int, int, int, int, int, int, int]
ABSENT: Stack = (0, 0, 0, 0, 0, 0, 0)

# The position is the type's number in csrc/common/convert.h.
STORAGE = (
    torch.uint8,
    torch.uint16,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


def color_stack(images: Tensor | None) -> Stack:
    """A ``(B, K, C, H, W)`` tensor: its address, type and strides."""
    if images is None:
        return ABSENT
    plane, layer, channel, row, column = images.stride()
    dtype = STORAGE.index(images.dtype)
    return (images.data_ptr(), dtype, plane, layer, channel, row, column)


def gray_stack(images: Tensor | None) -> Stack:
    """A ``(B, K, H, W)`` or ``(B, H, W)`` tensor as a stack of one channel (and one image)."""
    if images is None:
        return ABSENT
    return color_stack((images if images.ndim == 4 else images.unsqueeze(1)).unsqueeze(2))


def axis_taps(window: int, sigma: float | None, size: int) -> tuple[float, ...]:
    return _taps(effective_window(window, size), sigma)


def flatten_planes(images: Tensor) -> Tensor:
    """``(..., H, W)`` as ``(N, H, W)``."""
    return images.reshape(-1, *images.shape[-2:])


def map_like(images: Tensor, window: int, border: str = "valid") -> Tensor:
    """Uninitialised memory for the value of every window of ``(..., H, W)``."""
    if border != "valid":
        return images.new_empty(images.shape)
    height, width = images.shape[-2:]
    rows = height - effective_window(window, height) + 1
    columns = width - effective_window(window, width) + 1
    return images.new_empty((*images.shape[:-2], rows, columns))
