"""Borders that are replicated: values and gradients are those of F.pad."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from fastmef.nn.blocks import replicate_border

SIZES = [(1, 1), (1, 4), (3, 1), (2, 2), (5, 7)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_gradient(size, layout):
    features = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=layout)
    one, other = (features.clone().requires_grad_() for _ in range(2))
    padded, expected = replicate_border(one), F.pad(other, (1, 1, 1, 1), mode="replicate")
    assert torch.equal(padded, expected)
    if size != (1, 1):  # a single pixel has both layouts
        assert padded.is_contiguous(memory_format=layout)
        assert replicate_border(padded).is_contiguous(memory_format=layout)
    grad_output = torch.randn_like(expected)
    padded.backward(grad_output)
    expected.backward(grad_output)
    torch.testing.assert_close(one.grad, other.grad)
    assert one.grad.stride() == features.stride()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_of_gradients(size):
    features = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert gradcheck(replicate_border, features) and gradgradcheck(replicate_border, features)


def test_transforms():
    features = torch.randn(3, 1, 2, 4, 5)
    loss = lambda x: replicate_border(x).square().sum()  # noqa: E731
    found = torch.func.vmap(torch.func.grad(loss))(features)
    expected = features.clone().requires_grad_()
    loss(expected.flatten(0, 1)).backward()
    torch.testing.assert_close(found, expected.grad)


def test_gradient_is_not_changed():
    """``grad_output`` may be used elsewhere, or be a single expanded value."""
    features = torch.randn(1, 2, 3, 4, requires_grad=True)
    padded = replicate_border(features)
    grad_output = torch.ones(()).expand_as(padded)
    (grad,) = torch.autograd.grad(padded, features, grad_output)
    assert grad_output.unique().tolist() == [1]
    assert grad[0, 0].tolist() == [[4, 2, 2, 4], [2, 1, 1, 2], [4, 2, 2, 4]]


@pytest.mark.parametrize("needs_grad", [False, True])
def test_autocast_does_not_widen_borders(needs_grad):
    features = torch.randn(1, 2, 3, 4, dtype=torch.bfloat16, requires_grad=needs_grad)
    with torch.autocast("cpu", torch.bfloat16):
        assert replicate_border(features).dtype == torch.bfloat16
