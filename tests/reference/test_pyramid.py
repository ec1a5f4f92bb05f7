"""The filters of the Gaussian pyramid."""

from __future__ import annotations

import pytest
import torch

from fastmef.reference.pyramid import halved_size, reduce, reduce_backward


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (3, 5), (6, 7), (8, 9), (31, 20)])
def test_reduce_backward(size):
    images = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    grad = torch.rand(2, 3, *halved_size(size, 1), dtype=torch.float64)
    (expected,) = torch.autograd.grad(reduce(images), images, grad)
    torch.testing.assert_close(reduce_backward(grad, size), expected, rtol=1e-12, atol=1e-12)
