"""The C++ normalisation: statistics that do not cancel, sizes beyond a chunk, and equal bits."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from cases import same_bits_in_threads
from torch import Tensor, nn

from fastmef import FusionNet
from fastmef.nn import blocks
from fastmef.nn.blocks import norm_act
from fastmef.ops import norm_act as op
from fastmef.reference.borders import repeat_border

pytestmark = pytest.mark.usefixtures("kernels")

THEN = ("", "border", "pool", "pool border", "bilinear", "bilinear border")


def features(channels: int, offset: float = 0.0) -> Tensor:
    """Return features of several chunks, the first far from the others."""
    values = torch.randn(2, channels, 61, 47, generator=torch.Generator().manual_seed(0)) + offset
    values[0, :, 0, 0] += 100
    return values.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 5, 64, 100])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics(channels, offset):
    x = features(channels, offset)
    running = torch.zeros(channels), torch.ones(channels)
    mean, variance, count = op.statistics(x, *running, 0.25).double()
    exact = x.double().transpose(0, 1).flatten(1)
    assert (count == exact.shape[1]).all()
    torch.testing.assert_close(mean, exact.mean(1), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(variance, exact.var(1, correction=0), rtol=1e-6, atol=0)
    torch.testing.assert_close(running[0].double(), 0.25 * exact.mean(1), rtol=1e-6, atol=1e-7)
    unbiased = 0.75 + 0.25 * exact.var(1)
    torch.testing.assert_close(running[1].double(), unbiased, rtol=1e-6, atol=0)


def follow_exactly(y: Tensor, then: str) -> Tensor:
    """Apply the steps after the activation with PyTorch's own functions."""
    for step in then.split():
        if step == "pool":
            y = F.max_pool2d(y, 2)
        elif step == "bilinear":
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            y = F.pad(y, (1, 1, 1, 1), mode="replicate")
    return y


def check_step(x: Tensor, then: str, keep: bool = False) -> None:
    """Compare outputs and gradients of a step with those of PyTorch's modules in float64."""
    channels = x.shape[1]
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    exact = nn.BatchNorm2d(channels).double()
    exact.load_state_dict(norm.state_dict())
    given, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    y, after = norm_act(given, norm, F.relu, then, keep)
    z = exact(wide).relu()
    pairs = [(after, follow_exactly(z, then))] + [(y, z)] * keep
    for found, expected in pairs:
        assert "NormAct" in type(found.grad_fn).__name__  # and not PyTorch's
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(found.shape, generator=generator) for found, _ in pairs]
    found, expected = (
        torch.autograd.grad(outputs, inputs, grad_outputs)
        for outputs, inputs, grad_outputs in (
            ([a for a, _ in pairs], (given, *norm.parameters()), weights),
            ([b for _, b in pairs], (wide, *exact.parameters()), [w.double() for w in weights]),
        )
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("channels", [1, 5, 64, 100])
def test_gradients_of_several_chunks(channels, then):
    check_step(features(channels), then)


@pytest.mark.parametrize("then", THEN)
def test_rows_longer_than_a_chunk(then):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 64, 3, 600, generator=generator)
    check_step(x.to(memory_format=torch.channels_last), then)


@pytest.mark.parametrize("then", ["border", "bilinear border"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1), (2, 2)], ids=str)
def test_borders_of_few_pixels(size, then):
    x = torch.randn(3, 7, *size, generator=torch.Generator().manual_seed(4))
    check_step(x.to(memory_format=torch.channels_last), then)


@pytest.mark.parametrize("then", ["pool", "pool border"])
def test_both_results_are_used(then):
    check_step(features(16), then, keep=True)


def test_largest_of_four():
    """The first of equal values has the gradient, and NaN is the largest value."""
    x = torch.tensor([[3.0, 3, 1, 5, 1, 1], [3, 2, 5, 5, math.nan, 2]]).reshape(1, 1, 2, 6)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    _, after = op.norm_act(x, None, None, torch.zeros(1), torch.ones(1), None, 0.0, "pool", False)
    assert torch.equal(after.flatten().isnan(), torch.tensor([False, False, True]))
    (grad,) = torch.autograd.grad(after.sum(), x)
    # The gradient of ReLU at NaN is NaN.
    expected = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, 0, 0, math.nan, 0])
    torch.testing.assert_close(grad.flatten(), expected, equal_nan=True)


def test_whole_network_takes_no_copy_for_borders(monkeypatch):
    network = FusionNet(2, 4).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(network).double()
    stack = torch.rand(2, 2, 40, 56, generator=torch.Generator().manual_seed(5))
    exact.logits(stack.double()).square().mean().backward()
    sizes = []
    monkeypatch.setattr(
        blocks,
        "repeat_border",
        lambda x, *margins: sizes.append(x.shape) or repeat_border(x, *margins),
    )
    network.logits(stack).square().mean().backward()
    # Of the exposures, and where encoder and decoder meet.
    assert sizes == [(2, 2, 40, 56), (2, 32, 5, 7)]
    for found, expected in zip(network.parameters(), exact.parameters(), strict=True):
        assert (found.grad - expected.grad).norm() <= 1e-3 * expected.grad.norm() + 1e-7


@pytest.mark.parametrize("then", THEN)
def test_same_bits_in_threads(then):
    x = features(16).bfloat16().requires_grad_()

    def step() -> list[Tensor]:
        _, after = norm_act(x, nn.BatchNorm2d(16), F.relu, then, False)
        return [after, *torch.autograd.grad(after.float().square().sum(), x)]

    same_bits_in_threads(step)


def test_threads_that_upsample_apart():
    """A thread computes the rows above its first one itself if it needs them."""
    x = torch.randn(1, 16, 256, 256, generator=torch.Generator().manual_seed(6))
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    same_bits_in_threads(
        lambda: norm_act(x, nn.BatchNorm2d(16), F.relu, "bilinear", False)[1:], (1, 2, 2, 3, 3, 7)
    )
