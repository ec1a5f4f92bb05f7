"""The C++ convolution: images of many blocks, equal bits, and the calls that are PyTorch's."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from cases import same_bits_in_threads
from torch import Tensor, nn

from fastmef import FusionNet
from fastmef.nn.convolution import Conv3x3

pytestmark = pytest.mark.usefixtures("kernels")


def features(channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, channels, height, width, generator=generator)
    return values.to(memory_format=torch.channels_last)


def evaluate(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of a weighted sum of it."""
    given = x.clone().requires_grad_()
    y = module(given)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return [y.detach(), *torch.autograd.grad(y, (given, *module.parameters()), weights)]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("inputs", "outputs", "size"), [(16, 48, (131, 90)), (192, 80, (61, 47))])
def test_many_blocks(isa, inputs, outputs, size, padding):
    x, module = features(inputs, *size), Conv3x3(inputs, outputs, padding)
    plain = nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False)
    plain.load_state_dict(module.state_dict())
    single = evaluate(plain, x)
    exact = evaluate(plain.double(), x.double())
    for found, s, e in zip(evaluate(module, x), single, exact, strict=True):
        error, budget = ((y.double() - e).abs().max() for y in (found, s))
        assert error <= 2 * budget + 5e-7 * e.abs().max()


def test_same_bits_in_threads():
    x, module = features(32, 131, 90), Conv3x3(32, 80, 0)
    same_bits_in_threads(lambda: evaluate(module, x))


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_network(padding):
    network = FusionNet(2, 16, padding=padding).to(memory_format=torch.channels_last)
    exact = copy.deepcopy(network).double()
    stack = torch.rand(2, 2, 40, 56, generator=torch.Generator().manual_seed(5))
    exact.logits(stack.double()).square().mean().backward()
    network.logits(stack).square().mean().backward()
    for found, expected in zip(network.parameters(), exact.parameters(), strict=True):
        assert (found.grad - expected.grad).norm() <= 1e-3 * expected.grad.norm() + 1e-7


def name_of(module: nn.Module, x: Tensor) -> str:
    """Return the name of the function that has the gradient of a call."""
    return type(module(x).grad_fn).__name__


def test_pytorch_computes_other_calls():
    module, x = Conv3x3(16, 32, 0), features(16, 5, 6)
    assert name_of(module, x) == "Conv3x3Backward"
    assert name_of(copy.deepcopy(module).eval(), x) != "Conv3x3Backward"
    assert name_of(module, x.contiguous()) != "Conv3x3Backward"
    assert name_of(copy.deepcopy(module).double(), x.double()) != "Conv3x3Backward"
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert torch.equal(module(x), F.conv2d(x, module.weight))
    module.bias = nn.Parameter(torch.randn(32))
    assert name_of(module, x) != "Conv3x3Backward"


def test_transforms():
    """The kernels have no rule for ``vmap``; PyTorch computes the call."""
    module, x = Conv3x3(16, 16, 1), features(16, 5, 6).unsqueeze(1)
    loss = lambda x: module(x).square().sum()  # noqa: E731
    found = torch.func.vmap(torch.func.grad(loss))(x)
    given = x.flatten(0, 1).requires_grad_()
    (expected,) = torch.autograd.grad(
        F.conv2d(given, module.weight, padding=1).square().sum(), given
    )
    torch.testing.assert_close(found.flatten(0, 1), expected)


def test_pytorch_reports_what_does_not_fit():
    module = Conv3x3(16, 16, 0)
    with pytest.raises(RuntimeError, match="to have 16 channels"):
        module(features(32, 5, 6))
    with pytest.raises(RuntimeError, match="[Kk]ernel size"):
        module(features(16, 2, 6))
    assert module(features(16, 5, 6)[:0]).shape == (0, 16, 3, 4)


def test_direct_calls_that_do_not_fit():
    x, weight = features(16, 5, 6), torch.randn(32, 16, 3, 3)
    op = torch.ops.fastmef
    for given, padding in ((x.contiguous(), 0), (x.double(), 0), (x[:, :8], 0), (x, 3)):
        with pytest.raises(RuntimeError, match="conv3x3 of"):
            op.conv3x3(given, weight, padding, False)
    with pytest.raises(RuntimeError, match="gradient of conv3x3"):
        op.conv3x3_weight_gradient(features(32, 4, 4), x, weight, 0)
