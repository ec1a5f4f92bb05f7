"""What the arguments of the public operations have to be, each explained in one line."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.reference.gamma import ATTRIBUTES, parse_attributes

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.uint16)


def check_dtype(name: str, tensor: Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise InputError(f"{name} must be one of {names}, got {tensor.dtype}")


def check_float(name: str, tensor: Tensor) -> None:
    check_dtype(name, tensor, _FLOATS)


def check_image(name: str, tensor: Tensor) -> None:
    check_dtype(name, tensor, (*_INTEGERS, *_FLOATS))


def check_planes(name: str, tensor: Tensor) -> None:
    check_float(name, tensor)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise InputError(f"{name} must be (..., H, W) and not empty, got {tuple(tensor.shape)}")


def check_stack(name: str, tensor: Tensor) -> None:
    check_float(name, tensor)
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise InputError(f"{name} must be (B, K, H, W) and not empty, got {tuple(tensor.shape)}")


def check_one_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise InputError(
            f"{name} and {other_name} must be on one device, got {tensor.device}, {other.device}"
        )


def check_same_kind(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    check_one_device(name, tensor, other_name, other)
    if tensor.dtype != other.dtype:
        raise InputError(
            f"{name} and {other_name} must have one dtype, got {tensor.dtype} and {other.dtype}"
        )


def check_window(window: int, sigma: float | None) -> None:
    if not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise InputError(f"window must be an odd positive integer, got {window!r}")
    if sigma is not None and not 0 < sigma < math.inf:
        raise InputError(f"sigma must be positive, or None for a flat window, got {sigma!r}")


def check_at_least(name: str, value: float, lowest: float) -> None:
    if not lowest <= value < math.inf:
        raise InputError(f"{name} must be a finite number of at least {lowest}, got {value!r}")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_gamma(gamma: str) -> None:
    if parse_attributes(gamma) is None:
        raise InputError(
            f"gamma must join a non-empty subset of {', '.join(ATTRIBUTES)} "
            f"in this order by '_', got {gamma!r}"
        )
