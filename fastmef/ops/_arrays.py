"""Tensors as the compiled module takes them: addresses, strides, window taps."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

from fastmef.reference.filters import _taps, effective_window

View: TypeAlias = tuple[int, int, int, int, int]
ABSENT: View = (0, 0, 0, 0, 0)


def stack_view(images: Tensor | None) -> View:
    """A ``(B, K, H, W)`` tensor: its address and strides in elements."""
    if images is None:
        return ABSENT
    return (images.data_ptr(), *images.stride())  # type: ignore[return-value]


def plane_view(images: Tensor | None) -> View:
    """A ``(B, H, W)`` tensor: its address and strides, none for exposures."""
    if images is None:
        return ABSENT
    plane, row, column = images.stride()
    return (images.data_ptr(), plane, 0, row, column)


def axis_taps(window: int, sigma: float | None, size: int) -> tuple[float, ...]:
    return _taps(effective_window(window, size), sigma)
