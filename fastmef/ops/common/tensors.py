"""Convert tensors to addresses, types and strides, allocate results, and make window taps."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor

from fastmef.ops.common.operation import RefusedError
from fastmef.reference.filters import effective_window, gaussian_taps
from fastmef.reference.gamma import ATTRIBUTES, parse_attributes

Stack: TypeAlias = tuple[int, int, int, int, int, int, int]
Taps: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
ABSENT: Stack = (0, 0, 0, 0, 0, 0, 0)

# The position is the border's number in csrc/cpu/window/axis.h.
BORDERS = ("valid", "zero", "reflect")

# The position is the type's number in csrc/common/convert.h.
STORAGE = (
    torch.uint8,
    torch.uint16,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)
_NUMBERS = {dtype: number for number, dtype in enumerate(STORAGE)}


def color_stack(images: Tensor | None) -> Stack:
    """Return the address, type and strides of a ``(B, K, C, H, W)`` tensor."""
    if images is None:
        return ABSENT
    plane, layer, channel, row, column = images.stride()
    return (images.data_ptr(), _NUMBERS[images.dtype], plane, layer, channel, row, column)


def fused_stack(fused: Tensor | None) -> Stack:
    """Return a ``(B, C, H, W)`` tensor as a stack with K = 1."""
    return color_stack(None if fused is None else fused.unsqueeze(1))


def gray_stack(images: Tensor | None) -> Stack:
    """Return ``(B, K, H, W)`` or ``(B, H, W)`` as a stack with C = 1, and K = 1 for the latter."""
    if images is None:
        return ABSENT
    # The stride of an axis of size 1 is never used; a contiguous view would have this one.
    if images.ndim == 3:
        plane, row, column = images.stride()
        layer = channel = images.size(1) * row
    else:
        plane, layer, row, column = images.stride()
        channel = images.size(2) * row
    return (images.data_ptr(), _NUMBERS[images.dtype], plane, layer, channel, row, column)


@lru_cache
def attribute_bits(attributes: str) -> int:
    """Return the bits of csrc/common/attributes.h for a name like ``"variance_gradient"``."""
    return sum(1 << ATTRIBUTES.index(name) for name in parse_attributes(attributes) or ())


@lru_cache(maxsize=256)
def axis_taps(window: int, sigma: float | None, size: int) -> tuple[float, ...]:
    """Return the taps of the window along an axis of ``size`` pixels."""
    require(
        window > 0 and (window % 2 == 1 or sigma is None), "a window has an odd number of pixels"
    )
    return gaussian_taps(effective_window(window, size), sigma)


def window_taps(images: Tensor, window: int, sigma: float | None) -> Taps:
    """Return the taps along the height and the width of ``(..., H, W)``."""
    height, width = images.shape[-2:]
    return axis_taps(window, sigma, height), axis_taps(window, sigma, width)


def flatten_planes(images: Tensor) -> Tensor:
    """View ``(..., H, W)`` as ``(N, H, W)``."""
    return images.reshape(-1, *images.shape[-2:])


def map_shape(images: Tensor, window: int, border: str) -> tuple[int, ...]:
    """Return the shape of the map with one value for each window of ``(..., H, W)``."""
    if border != "valid":
        return tuple(images.shape)
    height, width = images.shape[-2:]
    rows = height - effective_window(window, height) + 1
    columns = width - effective_window(window, width) + 1
    return (*images.shape[:-2], rows, columns)


def map_like(images: Tensor, window: int, border: str = "valid") -> Tensor:
    """Allocate an uninitialised map with one value for each window."""
    return images.new_empty(map_shape(images, window, border))


def gradient_like(x: Tensor, wanted: bool = True) -> Tensor:
    """Allocate the gradient w.r.t. ``x``, contiguous and uninitialised; empty if not wanted."""
    if not wanted:
        return x.new_empty((0,))
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def scalar_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of sums over ``x``, at least float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def fused_like(exposures: Tensor) -> Tensor:
    """Allocate ``(B, C, H, W)`` in the dtype and layout of ``(B, K, C, H, W)``."""
    batch, _, channels, height, width = exposures.shape
    if channels > 1 and exposures.stride(2) == 1 and exposures.stride(4) == channels:
        return exposures.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return exposures.new_empty((batch, channels, height, width))


def require(fits: bool, what: str) -> None:
    """Refuse a direct call of a registered operation that would access memory out of bounds.

    Calls through :mod:`fastmef.functional` were checked there, with messages that explain what is
    allowed.
    """
    if not fits:
        raise RefusedError(f"fastmef: {what}")
