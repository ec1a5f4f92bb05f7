"""Checks of single arguments, each with an error of one line."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from fastmef import backends
from fastmef.errors import InputError, shown

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.uint16)
_LARGEST_WINDOW = 65535
_LARGEST_INTEGER = 1 << 53  # above, floating-point numbers have gaps


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite real number and not a bool."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _LARGEST_INTEGER
    return isinstance(value, Real) and math.isfinite(value)


def can_read(tensor: Tensor) -> bool:
    """Return whether values may be read: on the CPU, outside torch.compile and transforms."""
    if torch.compiler.is_compiling() or backends.transforms_active():
        return False
    return tensor.device.type == "cpu"


def check_dense(name: str, tensor: Tensor) -> None:
    """Refuse anything but a tensor, and sparse, quantized and nested tensors."""
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise InputError(f"{name} must be a dense tensor, got layout {tensor.layout}")


def check_dtype(name: str, tensor: Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    check_dense(name, tensor)
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise InputError(f"{name} must be one of {names}, got {tensor.dtype}")


def check_float(name: str, tensor: Tensor) -> None:
    check_dtype(name, tensor, _FLOATS)


def check_image(name: str, tensor: Tensor) -> None:
    """Refuse tensors that are not uint8, uint16 or floating point."""
    check_dtype(name, tensor, (*_INTEGERS, *_FLOATS))


def check_planes(name: str, tensor: Tensor) -> None:
    """Refuse tensors that are not floating point ``(..., H, W)``, or empty."""
    check_float(name, tensor)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise InputError(f"{name} must be (..., H, W) and not empty, got {tuple(tensor.shape)}")


def check_stack(name: str, tensor: Tensor) -> None:
    """Refuse tensors that are not floating point ``(B, K, H, W)``, or empty."""
    check_float(name, tensor)
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise InputError(f"{name} must be (B, K, H, W) and not empty, got {tuple(tensor.shape)}")


def check_one_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise InputError(
            f"{name} and {other_name} must be on one device, got {tensor.device}, {other.device}"
        )


def check_same_kind(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Refuse two tensors that differ in device or dtype."""
    check_one_device(name, tensor, other_name, other)
    if tensor.dtype != other.dtype:
        raise InputError(
            f"{name} and {other_name} must have one dtype, got {tensor.dtype} and {other.dtype}"
        )


def check_window(window: int, sigma: float | None) -> None:
    odd = isinstance(window, int) and not isinstance(window, bool) and window % 2 == 1
    if not odd or not 1 <= window <= _LARGEST_WINDOW:
        raise InputError(
            f"window must be an odd positive integer, got {shown(window)};"
            f" the largest is {_LARGEST_WINDOW}"
        )
    if sigma is not None and not (is_number(sigma) and 0 < sigma < math.inf):
        raise InputError(f"sigma must be positive, or None for a flat window, got {shown(sigma)}")


def check_number(name: str, value: float) -> None:
    if not is_number(value):
        raise InputError(f"{name} must be a finite number, got {shown(value)}")


def check_at_least(name: str, value: float, lowest: float) -> None:
    if not (is_number(value) and lowest <= value < math.inf):
        raise InputError(f"{name} must be a finite number of at least {lowest}, got {shown(value)}")


def check_positive(name: str, value: float) -> None:
    if not (is_number(value) and 0 < value < math.inf):
        raise InputError(f"{name} must be positive and finite, got {shown(value)}")


def check_flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {shown(value)}")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {shown(value)}")
