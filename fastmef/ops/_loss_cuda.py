"""The one-pass CUDA C++ loss: what it serves and how it is called.

It knows windows of 11 pixels, two or three exposures and a single scale without a mask. Everything
else is left to Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops import _cuda
from fastmef.ops._arrays import attribute_bits, axis_taps, gray_stack, require

WINDOW = 11
COUNTS = (2, 3)


def covers(exposures: Tensor, mask: Tensor | None, window: int, scales: Sequence[float]) -> bool:
    """Whether the case is one of those that the kernels were written for."""
    return (
        mask is None
        and window == WINDOW
        and exposures.shape[1] in COUNTS
        and min(exposures.shape[2:]) >= WINDOW
        and scales[0] > 0
        and not any(scales[1:])
    )


def sweep(
    source: Tensor,
    exposures: Tensor,
    options: Sequence[Any],
    gradient: Tensor | None,
    gradient_scale: float,
) -> Tensor:
    """The value; fills ``gradient``, multiplied by ``gradient_scale``."""
    gamma, luminance, window, sigma, k1, k2, floor, eps = options
    require(
        exposures.ndim == 4
        and exposures.numel() > 0
        and source.shape in (exposures.shape, exposures.shape[:1] + exposures.shape[2:]),
        f"the loss of {tuple(source.shape)} and {tuple(exposures.shape)} is not defined",
    )
    batch, count, height, width = exposures.shape
    windows = batch * (height - WINDOW + 1) * (width - WINDOW + 1)
    module = backends.CUDA_MODULE
    blocks = module.loss_blocks(batch, height, width)  # type: ignore[union-attr]
    partials = source.new_empty((blocks,), dtype=torch.float64)
    value = source.new_empty((), dtype=torch.float32)
    module.fusion_loss(  # type: ignore[union-attr]
        _cuda.place("fusion_loss", source, exposures),
        (batch, count, 1, height, width),
        source.ndim == 4,
        gray_stack(source),
        gray_stack(exposures),
        gray_stack(gradient),
        partials.data_ptr(),
        value.data_ptr(),
        axis_taps(window, sigma, height),
        attribute_bits(gamma),
        luminance,
        k1**2,
        k2**2,
        floor,
        eps,
        -gradient_scale / windows,
    )
    return value
