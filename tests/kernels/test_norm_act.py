"""Fused normalisation against PyTorch's modules in float64, and what torch.compile makes of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastmef import FusionNet, backends
from fastmef.nn.blocks import ConvNormAct, follow
from fastmef.nn.norm_act import fused_norm_act, is_fused
from fastmef.ops import norm_act as op
from fastmef.reference import norm_act as reference

SHAPES = [(2, 16, 6, 10), (1, 3, 2, 2), (2, 5, 7, 9), (3, 70, 5, 3), (1, 1, 2, 700), (1, 130, 33, 3)]
FOLLOWING = ["", "pool", "bilinear"]


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    x = 2 * torch.randn(shape, dtype=torch.float64) + torch.randn(1, shape[1], 1, 1)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, kind: type = nn.BatchNorm2d, **options: Any) -> nn.BatchNorm2d:
    norm = kind(channels, **options)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 0.5)
    if norm.running_mean is not None:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def step(x: Tensor, norm: nn.Module, then: str, by_y: Tensor, by_after: Tensor | None, fused: bool):
    """Outputs, gradients and buffers of one step, in float64."""
    x = x.detach().requires_grad_()
    if fused:
        assert is_fused(x, norm)
        y, after = fused_norm_act(x, norm, then, True)
        assert after.is_contiguous(memory_format=torch.channels_last)
    else:
        y = norm(x).relu()
        after = follow(y, then) if then else y
    outputs = [y, after] if then == "pool" else [after if then else y]
    upstream = [by_y, by_after] if then == "pool" else [by_after if then else by_y]
    torch.autograd.backward(outputs, [g.to(x) for g in upstream])
    gradients = [x.grad, *(p.grad for p in norm.parameters())]
    found = [*outputs, *gradients, *norm.buffers()]
    return [t.detach().double().cpu() for t in found]


def check(
    x: Tensor, norm: nn.BatchNorm2d, then: str, device: torch.device, fused_norm: Any = None
) -> None:
    y = torch.randn(x.shape, dtype=torch.float64)
    after = torch.randn_like(follow(y, then)) if then else None
    cut = backends.INTERPRETED and x.dtype == torch.bfloat16  # the interpreter truncates
    eps = torch.finfo(x.dtype).eps * (2 if cut else 1)
    ours = fused_norm or copy.deepcopy(norm)
    eager, exact = copy.deepcopy(norm), copy.deepcopy(norm).double()
    expected = step(x.double(), exact, then, y, after, fused=False)
    plain = step(x, eager, then, y, after, fused=False)
    found = step(x.to(device), ours.to(device), then, y, after, fused=True)
    for got, usual, true in zip(found, plain, expected, strict=True):
        error, limit = (got - true).abs().max(), (usual - true).abs().max()
        assert error <= 2 * limit + 4 * eps * true.abs().max() + 1e-6


@pytest.mark.parametrize("then", FOLLOWING)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, training, then, device) -> None:
    check(images(shape), norm_of(shape[1]).train(training), then, device)
