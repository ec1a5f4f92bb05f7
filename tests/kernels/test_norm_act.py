"""Fused normalisation against PyTorch's modules in float64, eager and compiled."""

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

SHAPES = [(2, 16, 6, 10), (1, 3, 2, 2), (2, 5, 7, 9), (3, 70, 5, 3), (1, 1, 2, 700)]
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


def step(
    x: Tensor, norm: nn.Module, then: str, grad_y: Tensor, grad_after: Tensor | None, fused: bool
):
    """Return outputs, gradients and buffers of one step in float64."""
    x = x.detach().requires_grad_()
    if fused:
        assert is_fused(x, norm)
        y, after = fused_norm_act(x, norm, then, True)
        assert (after if then else y).is_contiguous(memory_format=torch.channels_last)
    else:
        y = norm(x).relu()
        after = follow(y, then) if then else y
    outputs = [y, after] if then == "pool" else [after if then else y]
    grad_output = [grad_y, grad_after] if then == "pool" else [grad_after if then else grad_y]
    torch.autograd.backward(outputs, [g.to(x) for g in grad_output])
    gradients = [x.grad, *(p.grad for p in norm.parameters())]
    found = [*outputs, *gradients, *norm.buffers()]
    return [t.detach().double().cpu() for t in found]


def check(
    x: Tensor, norm: nn.BatchNorm2d, then: str, device: torch.device, fused_norm: Any = None
) -> None:
    y = torch.randn(x.shape, dtype=torch.float64)
    after = torch.randn_like(follow(y, then)) if then else None
    cut = backends.INTERPRETED and x.dtype == torch.bfloat16  # the interpreter truncates
    unit = torch.finfo(x.dtype).eps * (1 if cut else 0.5)
    ours = fused_norm or copy.deepcopy(norm)
    eager, exact = copy.deepcopy(norm), copy.deepcopy(norm).double()
    expected = step(x.double(), exact, then, y, after, fused=False)
    plain = step(x, eager, then, y, after, fused=False)
    found = step(x.to(device), ours.to(device), then, y, after, fused=True)
    for got, usual, true in zip(found, plain, expected, strict=True):
        error, limit = (got - true).abs().max(), (usual - true).abs().max()
        assert error <= 2 * limit + (unit + 4e-7) * true.abs().max() + 1e-6


@pytest.mark.parametrize("then", FOLLOWING)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, training, then, device) -> None:
    check(images(shape), norm_of(shape[1]).train(training), then, device)


@pytest.mark.parametrize("then", ["", "bilinear"])
def test_single_pixels(then, device) -> None:
    check(images((3, 2, 1, 1)), norm_of(2), then, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("then", FOLLOWING)
def test_bright_flat_area(dtype, then, device) -> None:
    x = (0.899 + 2e-3 * torch.rand(2, 3, 5, 6)).to(dtype)
    check(x.contiguous(memory_format=torch.channels_last), norm_of(3, eps=1e-8), then, device)


@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"track_running_stats": False},
        {"momentum": None},
        {"momentum": 0.7, "eps": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_options_of_the_module(options, training, device) -> None:
    norm = norm_of(5, **options).train(training)
    # Twice: the weight of the second batch in the running statistics depends on the first.
    for _ in range(2):
        check(images((2, 5, 4, 3)), norm, "pool", device)
        if training:
            norm(images((2, 5, 4, 3)))


def test_frozen_statistics_are_not_moved(device) -> None:
    norm = norm_of(4).eval().to(device)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    fused_norm_act(images((1, 4, 4, 4)).to(device), norm, "", True)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_bright_flat_images_keep_their_variance(device) -> None:
    x = (0.9 + 1e-3 * torch.rand(1, 4, 40, 40)).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = 900.0  # the statistics must not be relative to the first value
    mean, variance, count = op.statistics(x.to(device), None, None, 0.0).cpu().double()
    exact = reference.moments(x.double())
    assert ((mean - exact[0]).abs() <= 1e-6 * exact[0].abs()).all()
    # The interpreter adds up the 512 lines of a tile one after another.
    assert ((variance - exact[1]).abs() <= 512 * 6e-8 * exact[1]).all()
    assert torch.equal(count, exact[2])


def test_only_one_of_two_results_is_used(device) -> None:
    x = images((1, 4, 6, 6)).to(device)
    norm = norm_of(4).to(device)
    for used in (0, 1):
        got, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
        fused_norm_act(got, copy.deepcopy(norm), "pool", True)[used].square().sum().backward()
        y = copy.deepcopy(norm)(expected).relu()
        (y, follow(y, "pool"))[used].square().sum().backward()
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_first_of_equal_values_gets_the_gradient(device) -> None:
    x = torch.tensor([[3.0, 3, 1, 5], [3, 2, 5, 5]]).reshape(1, 1, 2, 4)
    x = x.contiguous(memory_format=torch.channels_last).to(device).requires_grad_()
    fused_norm_act(x, nn.BatchNorm2d(1).eval().to(device), "pool", False)[1].sum().backward()
    assert (x.grad != 0).cpu().flatten().tolist() == [True, False, False, True] + 4 * [False]


def test_parts_merge_to_the_whole(device) -> None:
    x = images((5, 6, 3, 4)).to(device)
    parts = [op.statistics(part, None, None, 0.0) for part in x.split([1, 4])]
    empty = op.statistics(x[:0], None, None, 0.0)
    assert not empty.any()
    buffers = torch.zeros(6, device=device), torch.zeros(6, device=device)
    merged = op.merge_statistics(torch.stack((*parts, empty)), *buffers, 0.25).cpu().double()
    exact = reference.moments(x.cpu().double())
    torch.testing.assert_close(merged, exact, rtol=1e-6, atol=1e-6)
    unbiased = x.cpu().double().var(dim=(0, 2, 3))
    torch.testing.assert_close(buffers[1].cpu().double(), 0.25 * unbiased, rtol=1e-6, atol=0)


def test_who_is_served(device) -> None:
    x, norm = images((2, 4, 4, 4)).to(device), nn.BatchNorm2d(4).to(device)
    assert is_fused(x, norm) and is_fused(x.half(), norm)
    assert not is_fused(x.contiguous(), norm)
    assert not is_fused(x.double(), norm)
    assert not is_fused(x, nn.Identity())
    assert not is_fused(x, type("Own", (nn.BatchNorm2d,), {})(4).to(device))
    assert not is_fused(x[:1, :, :1, :1], norm)
    with pytest.raises(ValueError, match="more than 1 value"):
        ConvNormAct(4, 4).to(device)(x[:1, :, :1, :1])


@pytest.mark.parametrize("options", [{"skip_connections": True}, {"upsampling": "nearest"}, {}])
def test_whole_network(options, device) -> None:
    # With a replicated border the 2×2 pixels at the bottom hardly differ, and plain PyTorch in
    # float32 is then off by 5 % as well.
    network = FusionNet(2, 2, padding="zeros", **options)
    nn.init.normal_(network.body.head.weight)
    stack = torch.rand(1, 2, 3, 9, 15)
    exact = copy.deepcopy(network).double()
    fused = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last)
    torch.square(exact.logits(stack.double())).mean().backward()
    torch.square(fused.logits(stack.to(device))).mean().backward()
    pairs = zip(fused.parameters(), exact.parameters(), strict=True)
    for got, true in pairs:
        assert (got.grad.cpu() - true.grad).norm() <= 1e-3 * true.grad.norm() + 1e-7
    logits = exact.eval().logits(stack.double())
    torch.testing.assert_close(
        fused.eval().logits(stack.to(device)).cpu().double(), logits, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("then", FOLLOWING)
def test_compiled_module(then, device) -> None:
    block = ConvNormAct(3, 4).to(device).to(memory_format=torch.channels_last)
    compiled = torch.compile(copy.deepcopy(block), backend="aot_eager", fullgraph=True)
    x = images((2, 3, 4, 6)).to(device)
    for module in (block, compiled):
        out = module(x, then, False)
        (out[1] if then else out).square().sum().backward()
    for (name, got), expected in zip(
        compiled._orig_mod.state_dict().items(), block.state_dict().values(), strict=True
    ):
        assert torch.equal(got, expected), name
    for got, expected in zip(compiled.parameters(), block.parameters(), strict=True):
        assert torch.equal(got.grad, expected.grad)
