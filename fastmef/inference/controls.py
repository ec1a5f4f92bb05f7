"""The options of a fusion: they are checked and brought into the order of the sorted exposures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.errors import InputError, shown
from fastmef.inference.core import STEPS, Controls
from fastmef.nn import multiscale
from fastmef.nn.multiscale import COLOR

_RANGES = {"color": (0.0, 1.0), "contrast": (0.0, 4.0), "brightness": (-2.0, 2.0)}
_LARGEST_BIAS = 20.0
_SMALLEST_WEIGHT = 1e-12  # its logarithm is finite


@dataclass(frozen=True)
class Control:
    """The options of :func:`fastmef.fuse`, in the order of the images that were given."""

    color: float = COLOR
    contrast: float = 1.0
    brightness: float = 0.0
    bias: Sequence[float] | None = None
    masks: Sequence[NDArray[np.bool_] | None] | None = None
    weights: NDArray[np.floating] | None = None
    refine: int = STEPS

    @property
    def names_frames(self) -> bool:
        """Whether an option has a value for each frame; copies of a frame may then differ in it."""
        return any(x is not None for x in (self.bias, self.masks, self.weights))

    def require_defaults(self) -> None:
        """Refuse options that a model for a fixed number of exposures does not have."""
        for name, default in (("contrast", 1.0), ("brightness", 0.0)):
            if getattr(self, name) != default:
                raise InputError(f"{name} needs a model for any number of exposures")
        for name in ("bias", "masks", "weights"):
            if getattr(self, name) is not None:
                raise InputError(f"{name} needs a model for any number of exposures")

    def controls(self, order: Sequence[int], device: torch.device) -> Controls:
        """Return the options for exposures in this order; they must have been checked."""
        bias = weights = None
        if self.bias is not None:
            bias = torch.tensor([[float(self.bias[k]) for k in order]], device=device)
        if self.weights is not None:
            weights = torch.from_numpy(np.float32(self.weights)[list(order)]).to(device)[None]
            weights = weights.clamp_min(_SMALLEST_WEIGHT)
        return Controls(self.color, self.contrast, self.brightness, self.refine, bias, weights)


def check_controls(given: Control, count: int, size: tuple[int, ...]) -> None:
    """Check the options for ``count`` images of ``size`` (height, width).

    Raises:
        InputError: see :func:`fastmef.fuse`.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(given, name)
        if not _is_number(value) or not low <= value <= high:
            raise InputError(f"{name} must be from {low:g} to {high:g}, got {shown(value)}")
    if not isinstance(given.refine, int) or isinstance(given.refine, bool) or given.refine < 0:
        raise InputError(f"refine must be an integer of at least 0, got {shown(given.refine)}")
    _check_bias(given.bias, count)
    _check_masks(given.masks, count, size)
    _check_weights(given.weights, count, size)


def base_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the base, and of weight maps, for images of this size."""
    height, width = multiscale.base_size(height, width)
    return width, height


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any) -> bool:
    """Return whether a value is a sequence or an array of at least one axis."""
    return isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _check_bias(bias: Any, count: int) -> None:
    if bias is None:
        return
    values = list(bias) if _is_list(bias) else []
    fits = len(values) == count and all(
        _is_number(float(x)) and abs(x) <= _LARGEST_BIAS
        for x in values
        if isinstance(x, (int, float, np.number))
    )
    if not fits or not all(isinstance(x, (int, float, np.number)) for x in values):
        raise InputError(
            f"bias must be {count} numbers from -{_LARGEST_BIAS:g} to {_LARGEST_BIAS:g}, one for"
            f" each image, got {shown(bias)}"
        )


def _check_masks(masks: Any, count: int, size: tuple[int, ...]) -> None:
    if masks is None:
        return
    if not _is_list(masks) or len(masks) != count:
        got = len(masks) if _is_list(masks) else type(masks).__name__
        raise InputError(
            f"masks must be {count}, one for each image or None for an image without, got {got}"
        )
    for index, mask in enumerate(masks):
        if mask is None:
            continue
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != tuple(size):
            got = (
                f"{mask.dtype} {mask.shape}"
                if isinstance(mask, np.ndarray)
                else type(mask).__name__
            )
            raise InputError(f"mask {index} must be bool, shape {tuple(size)}, got {got}")


def _check_weights(weights: Any, count: int, size: tuple[int, ...]) -> None:
    if weights is None:
        return
    width, height = base_size(size[1], size[0])
    shape = (count, height, width)
    if not isinstance(weights, np.ndarray) or weights.shape != shape:
        got = weights.shape if isinstance(weights, np.ndarray) else type(weights).__name__
        raise InputError(f"weights must be an array {shape}, got {got}")
    if not np.issubdtype(weights.dtype, np.floating):
        raise InputError(f"weights must be floating-point numbers, got {weights.dtype}")
    if not np.isfinite(weights).all():
        raise InputError("weights must be finite, got NaN or infinite values")
    if weights.min() < 0:
        raise InputError(f"weights must not be negative, got {weights.min():g}")
    if weights.sum(axis=0).min() <= 0:
        raise InputError("one of the weights must be above 0 at every pixel, got a pixel of zeros")
