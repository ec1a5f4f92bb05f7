"""Time batch normalisation, ReLU and pool or upsampling, with gradient, as FusionNet trains them.

The inputs are eight patches of 256×256 (250 padded to a multiple of 8), with 64 to 512 channels, in
bfloat16 and channels last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.gpu.steps import label
from fastmef import backends
from fastmef.nn.blocks import follow
from fastmef.nn.norm_act import fused_norm_act, is_fused

# Shape, operation that follows, and whether the activation itself is an output too.
CASES = [
    ((8, 64, 256, 256), "", True),
    ((8, 64, 256, 256), "pool", False),
    ((8, 64, 256, 256), "pool", True),
    ((8, 128, 128, 128), "bilinear", False),
    ((8, 256, 64, 64), "", True),
    ((8, 512, 32, 32), "", True),
]
Step = Callable[[Tensor], tuple[Tensor, ...]]


def images(shape: tuple[int, ...], device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(shape, generator=generator) + torch.randn(1, shape[1], 1, 1)
    return x.to(device, torch.bfloat16).contiguous(memory_format=torch.channels_last)


def plain(x: Tensor, norm: nn.Module, then: str, keep: bool) -> tuple[Tensor, ...]:
    y = torch.relu(norm(x))
    after = (follow(y, then),) if then else ()
    return (y, *after) if keep else after


def fused(x: Tensor, norm: nn.Module, then: str, keep: bool) -> tuple[Tensor, ...]:
    y, after = fused_norm_act(x, norm, then, keep)
    return ((y,) if keep else ()) + ((after,) if then else ())


def step(function: Any, norm: nn.Module, then: str, keep: bool) -> Step:
    """Return forward and backward pass of the layer; ``grad_output`` is the output itself."""

    def both(x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        found = function(x, norm, then, keep)
        given = [x, *norm.parameters()]
        gradients = torch.autograd.grad(found, given, [y.detach() for y in found])
        return (*(y.detach() for y in found), *gradients)

    return both


def bytes_moved(x: Tensor, then: str, keep: bool) -> int:
    """Return the bytes that both passes must move.

    The forward pass reads x twice, first for the statistics, and writes the outputs. The backward
    pass reads x and the gradients of the outputs twice, first for sums, and writes the gradient.
    """
    share = {"": 0.0, "pool": 0.25, "bilinear": 4.0}[then] + keep
    size = x.numel() * x.element_size()
    return round(size * ((2 + share) + (2 * (1 + share) + 1)))


@pytest.mark.parametrize("shape, then, keep", CASES, ids=str)
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile"])
def test_norm_act(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    device: torch.device,
    fitted: Callable[..., tuple[int, ...]],
    shape: tuple[int, ...],
    then: str,
    keep: bool,
    name: str,
) -> None:
    x = images(fitted(*shape), device)
    norm = nn.BatchNorm2d(x.shape[1], device=device)
    nn.init.normal_(norm.weight, 1.0, 0.2)
    nn.init.normal_(norm.bias, 0.0, 0.2)
    if name == "fastmef" and not is_fused(x, norm):
        pytest.skip(f"no Triton kernels here: {backends.triton_status()}")
    double, single = copy.deepcopy(norm).double(), copy.deepcopy(norm)
    exact = step(plain, double, then, keep)(x.double())
    usual = step(plain, single, then, keep)(x)
    function = {"fastmef": fused, "eager": plain, "torch.compile": compiled(plain)}[name]
    both = step(function, norm, then, keep)
    for got, right, other in zip(both(x), exact, usual, strict=True):
        # The limit is a few times the error of PyTorch in bfloat16; a pool may choose among ties.
        limit = 3 * (other - right).abs().mean() + 0.01 * right.abs().mean()
        assert (got - right).abs().mean() <= limit
    del exact, usual
    text = f"norm_act{', ' + then if then else ''}{', both results' if then and keep else ''}"
    clock(lambda: both(x), f"{text}, {label(shape)} bf16, step", bytes_moved(x, then, keep))
