"""The C++ normalisation: statistics that do not cancel, sizes beyond a chunk, and equal bits."""

from __future__ import annotations

import pytest
import torch
from cases import same_bits_in_threads
from torch import Tensor, nn

from fastmef.nn.norm_act import norm_relu
from fastmef.ops import norm_act as op

pytestmark = pytest.mark.usefixtures("kernels")


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


@pytest.mark.parametrize("channels", [1, 5, 64, 100])
def test_gradients_of_several_chunks(channels):
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    x = features(channels).requires_grad_()
    y = norm_relu(x, norm)
    grad_output = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad(y, (x, norm.weight, norm.bias), grad_output)
    assert "NormAct" in type(y.grad_fn).__name__  # and not PyTorch's
    exact = nn.BatchNorm2d(channels).double()
    exact.load_state_dict(norm.state_dict())
    given = x.detach().double().requires_grad_()
    z = exact(given)
    wide = torch.autograd.grad(z.relu(), (given, exact.weight, exact.bias), grad_output.double())
    torch.testing.assert_close(y.double(), z.relu(), rtol=1e-5, atol=1e-5)
    for a, b in zip(found, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_same_bits_in_threads():
    x = features(16).bfloat16().requires_grad_()

    def step() -> list[Tensor]:
        y = norm_relu(x, nn.BatchNorm2d(16))
        return [y, *torch.autograd.grad(y.float().square().sum(), x)]

    same_bits_in_threads(step)
