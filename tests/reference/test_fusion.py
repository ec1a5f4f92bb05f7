"""softmax_fuse."""

from __future__ import annotations

import pytest
import torch

from fastmef import functional
from fastmef.errors import InputError


@pytest.mark.parametrize("count", [2, 3, 8])
def test_weighted_sum(count):
    logits = torch.randn(2, count, 5, 7, dtype=torch.float64)
    exposures = torch.rand(2, count, 3, 5, 7, dtype=torch.float64)
    fused, weights = functional.softmax_fuse(logits, exposures, return_weights=True)
    expected = torch.einsum("bkhw,bkchw->bchw", logits.exp(), exposures)
    expected = expected / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 7, dtype=torch.float64))
    torch.testing.assert_close(functional.softmax_fuse(logits, exposures), fused)


def test_stays_inside_the_range():
    exposures = torch.rand(1, 3, 3, 40, 40, dtype=torch.float64)
    fused = functional.softmax_fuse(10 * torch.randn(1, 3, 40, 40, dtype=torch.float64), exposures)
    assert (fused <= exposures.amax(1) + 1e-15).all()
    assert (fused >= exposures.amin(1) - 1e-15).all()


def test_gradcheck():
    logits = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    exposures = torch.rand(1, 3, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda x, e: functional.softmax_fuse(x, e, return_weights=True), (logits, exposures)
    )


def test_large_logits_do_not_overflow():
    logits = torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1)
    exposures = torch.tensor([0.2, 0.9]).reshape(1, 2, 1, 1, 1)
    assert float(functional.softmax_fuse(logits, exposures)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("logits", "exposures", "message"),
    [
        (torch.rand(1, 2, 4, 4), torch.rand(1, 3, 3, 4, 4), r"\(1, 3, 3, 4, 4\)"),
        (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4), r"\(B, K, C, H, W\)"),
        (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 3, 4, 4).double(), "one dtype"),
        (torch.rand(2, 4, 4), torch.rand(1, 2, 3, 4, 4), r"\(B, K, H, W\)"),
    ],
)
def test_errors(logits, exposures, message):
    with pytest.raises(InputError, match=message):
        functional.softmax_fuse(logits, exposures)
