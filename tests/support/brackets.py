"""Brackets, their multiscale fusion in float64, and the error that float32 may have."""

from __future__ import annotations

from typing import Any

import torch
from cases import INTEGERS, arrange
from torch import Tensor

from fastmef import functional, reference
from fastmef.reference.pyramid import halved_size

# Exposures, channels, height, width, levels: one pixel, less than a window, odd, blocks of columns.
SHAPES = [
    (2, 3, 1, 1, 0),
    (2, 3, 2, 3, 1),
    (3, 3, 1, 40, 2),
    (2, 1, 7, 5, 3),
    (5, 3, 33, 50, 2),
    (9, 3, 17, 12, 1),
    (2, 3, 70, 530, 3),
    (3, 2, 131, 21, 1),
]


def bracket(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return ``(B, K, C, H, W)`` with flat bright areas, weak and strong detail."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    level = torch.rand(*shape[:2], 1, 1, 1, generator=generator, dtype=torch.float64)
    ramp = torch.linspace(0, 1, shape[-1], dtype=torch.float64)
    strength = torch.where(ramp < 0.3, 1e-3, torch.where(ramp < 0.6, 0.05, 0.7))
    images = (0.97 - 0.3 * level + strength * (noise - 0.6)).clamp(0, 1)
    if dtype in INTEGERS:
        return (images * INTEGERS[dtype]).round().to(dtype)
    return images.to(dtype)


def small_logits(
    exposures: Tensor,
    levels: int,
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Return random logits of ``size``, by default of the last level's size."""
    generator = torch.Generator().manual_seed(1)
    size = size or halved_size(exposures.shape[-2:], levels)
    shape = (*exposures.shape[:2], *size)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def some_valid(exposures: Tensor) -> Tensor:
    """Return a mask with pixels where all, a few or no exposures are valid, in areas and alone."""
    generator = torch.Generator().manual_seed(7)
    shape = exposures.shape[:2] + exposures.shape[3:]
    valid = torch.rand(shape, generator=generator) < 0.7
    valid[..., shape[-1] // 2 :] |= torch.rand((*shape[:2], 1, 1), generator=generator) < 0.5
    valid[:, 0, :, : shape[-1] // 3] = False
    valid[..., :2, -3:] = False
    return valid


def fused_in(dtype: torch.dtype, logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    """Return the reference in ``dtype`` without rounding; integers are scaled to [0, 1]."""
    levels = options.pop("levels")
    integer = exposures.dtype in INTEGERS
    images = exposures.to(dtype) / INTEGERS.get(exposures.dtype, 1)
    # Levels of integers are integers in any precision.
    pyramid = reference.exposure_pyramid(
        exposures if integer else images, levels, options.get("valid")
    )
    pyramid = pyramid._replace(base=pyramid.base.to(dtype))
    return reference.multiscale_fuse(logits.to(dtype), images, levels, pyramid=pyramid, **options)


def check_fused(
    exposures: Tensor,
    levels: int,
    layout: str = "planar",
    device: Any = "cpu",
    size: tuple[int, int] | None = None,
    **options: Any,
) -> Tensor:
    """Check that the fast path has at most twice the error of the reference in float32."""
    logits = small_logits(exposures, levels, size=size)
    exact = fused_in(torch.float64, logits, exposures, levels=levels, **options)
    single = fused_in(torch.float32, logits, exposures, levels=levels, **options)
    moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
    arranged = arrange(exposures, layout).to(device)
    fused = functional.multiscale_fuse(logits.to(device), arranged, **moved).cpu()
    assert fused.dtype == exposures.dtype and fused.shape == exact.shape
    highest = INTEGERS.get(exposures.dtype, 1)
    largest = max(1.0, float(exact.abs().max()))
    if highest == 1:
        rounding = 0.51 * torch.finfo(exposures.dtype).eps * largest
    else:
        rounding, exact = 0.5 / highest, exact.clamp(0, 1)
    in_double = exposures.dtype == torch.float64
    arithmetic = 1e-11 if in_double else 2 * float((single - exact).abs().max()) + 1e-6 * largest
    error = (fused.double() / highest - exact).abs().max()
    assert error <= arithmetic + rounding, (float(error), arithmetic, rounding)
    return fused
