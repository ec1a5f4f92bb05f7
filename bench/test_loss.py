"""Time weighted_ssim_loss and fusion_loss, value and gradient.

Eager PyTorch is timed twice: with window means from conv2d, as in other packages, and with the
shifted additions of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.convolution import with_conv2d
from fastmef import functional, reference

SIZES = {"8x250x250": (8, 2, 250, 250), "1x1080x1920": (1, 2, 1080, 1920)}
SCALES = {"1 scale": (1.0,), "3 scales": (0.4, 0.35, 0.25)}
OTHERS = ["eager, conv2d", "torch.compile, conv2d", "eager", "torch.compile"]
Step = Callable[[Tensor, Tensor, tuple[float, ...]], tuple[Tensor, Tensor]]


@lru_cache(maxsize=1)
def inputs(op: str, size: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    exposures = reference.window_filter(
        torch.rand(SIZES[size], generator=generator), 5, 1.0, "reflect"
    )
    exposures = exposures * torch.tensor([0.4, 1.0]).reshape(1, 2, 1, 1)
    if op == "fusion_loss":
        return torch.randn(SIZES[size], generator=generator), exposures
    return exposures.mean(dim=1), exposures


def step(function: Callable[..., Tensor]) -> Step:
    def run(source: Tensor, exposures: Tensor, scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        x = source.detach().requires_grad_()
        value = function(x, exposures, scales=scales)
        (gradient,) = torch.autograd.grad(value, x)
        return value.detach(), gradient

    return run


@lru_cache(maxsize=1)
def exact(op: str, size: str, scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    source, exposures = inputs(op, size)
    return step(getattr(reference, op))(source.double(), exposures.double(), scales)


@pytest.mark.parametrize("op", ["weighted_ssim_loss", "fusion_loss"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", ["fastmef", *OTHERS])
def test_loss(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    op: str,
    size: str,
    scales: str,
    name: str,
) -> None:
    source, exposures = inputs(op, size)
    function = getattr(functional if name == "fastmef" else reference, op)
    if "torch.compile" in name:
        function = compiled(function)
    if "conv2d" in name:
        function = with_conv2d(function)
    run = step(function)
    check(run(source, exposures, SCALES[scales]), exact(op, size, SCALES[scales]), name)
    clock(lambda: run(source, exposures, SCALES[scales]), op, f"{size}, {scales}", name)
