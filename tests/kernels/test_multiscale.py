"""Multiscale fusion on Triton: more sizes, and its own backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brackets import bracket, check_fused, small_logits
from cases import INTEGERS, stack
from torch import Tensor

from fastmef import functional, reference
from fastmef.ops import multiscale

# The interpreter is slow; windows of 3×3 pixels are enough where the variance is not in question.
SHAPES = [
    (2, 3, 1, 1, 0),
    (2, 3, 2, 3, 1),
    (3, 1, 7, 5, 2),
    (5, 3, 4, 9, 1),
    (9, 4, 2, 3, 1),
    (2, 3, 17, 140, 1),
]
STORED = [*INTEGERS, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[int, ...], device: torch.device) -> None:
    check_fused(bracket(1, *shape[:4], dtype=torch.float32), shape[-1], device=device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("knee", [None, (0.3, 0.6)])
@pytest.mark.parametrize("size", [(5, 6), (6, 3), (1, 2)])
def test_gradients(
    dtype: torch.dtype,
    knee: Any,
    size: tuple[int, int],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiscale, "gradients", None)  # no backward pass of the reference
    exposures = bracket(2, 2, 3, *size, dtype=dtype)
    logits = small_logits(exposures, 1)
    weights = (stack(2, 3, *size, dtype=torch.float64, seed=5) - 0.4).to(dtype)

    def gradient(fuse: Any, logits: Tensor, exposures: Tensor) -> Tensor:
        x = logits.detach().requires_grad_()
        fused = fuse(x, exposures)
        fused.backward(weights.to(fused))
        return x.grad.double().cpu()

    def plain(x: Tensor, images: Tensor) -> Tensor:
        return reference.multiscale_fuse(x, images, 1, knee=knee, radius=1)

    def ours(x: Tensor, images: Tensor) -> Tensor:
        return functional.multiscale_fuse(x, images, knee=knee, radius=1)

    exact = gradient(plain, logits.double(), exposures.double())
    single = gradient(plain, logits, exposures.float())
    found = gradient(ours, logits.to(device), exposures.to(device))
    limit = 2 * (single - exact).abs().max() + 8e-7 * (1 + exact.abs().max())
    assert (found - exact).abs().max() <= limit
