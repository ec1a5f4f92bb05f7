"""The losses with their gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional, reference

SHAPES = [(8, 250, 250), (1, 1080, 1920), (1, 2160, 3840)]


def with_gradient(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def both(source: Tensor, exposures: Tensor) -> tuple[Tensor, Tensor]:
        source = source.detach().requires_grad_()
        value = function(source, exposures)
        return value.detach(), torch.autograd.grad(value, source)[0]

    return both


@pytest.mark.parametrize("shape", SHAPES, ids=lambda x: "x".join(map(str, x)))
@pytest.mark.parametrize("loss", ["weighted_ssim_loss", "fusion_loss"])
@pytest.mark.parametrize("name", ["fastmef", "triton", "eager", "torch.compile"])
def test_loss(
    clock: Callable[..., None],
    scene: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int, int],
    loss: str,
    name: str,
) -> None:
    if name == "torch.compile" and shape != SHAPES[0]:
        pytest.skip("compiled for the patches only: every shape costs half a minute")
    batch, height, width = shape
    exposures = scene(batch, 2, height, width)
    source = scene(batch, *((2,) if loss == "fusion_loss" else ()), height, width, seed=1)
    plain: Any = getattr(reference, loss)
    if name == "triton":  # two passes instead of one
        monkeypatch.setattr(backends, "WHY_NO_CUDA", "Triton is timed")
    others = {"eager": plain, "torch.compile": torch.compile(plain)}
    both = with_gradient(others.get(name, getattr(functional, loss)))
    value, gradient = both(source, exposures)
    exact, exact_gradient = with_gradient(plain)(source.double(), exposures.double())
    assert (value - exact).abs() <= 1e-5
    assert (gradient - exact_gradient).abs().max() <= 1e-3 * exact_gradient.abs().max()
    del exact, exact_gradient, value, gradient
    planes = 3 if loss == "weighted_ssim_loss" else 4
    moved = 4 * batch * height * width * (planes + (1 if loss == "weighted_ssim_loss" else 2))
    group = f"{loss}, {'x'.join(map(str, shape))}, 1 scale"
    clock(lambda: both(source, exposures), group, moved)
