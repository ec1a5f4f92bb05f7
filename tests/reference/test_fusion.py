"""softmax_fuse."""

from __future__ import annotations

import pytest
import torch

from fastmef import backends, functional
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
        (torch.rand(1, 2, 4, 4), torch.rand(2, 4, 4), r"\(B, K, C, H, W\)"),
        (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 3, 4, 4).int(), "uint16, .* got torch.int32"),
        (torch.rand(1, 2, 4, 4).byte(), torch.rand(1, 2, 3, 4, 4), "logits .* got torch.uint8"),
        (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 0, 4, 4), "a channel"),
        (torch.rand(2, 4, 4), torch.rand(1, 2, 3, 4, 4), r"\(B, K, H, W\)"),
    ],
)
def test_errors(logits, exposures, message):
    with pytest.raises(InputError, match=message):
        functional.softmax_fuse(logits, exposures)


STORED = {torch.uint8: 255, torch.uint16: 65535}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture(params=["kernels", "reference"])
def path(request, monkeypatch):
    if request.param == "kernels" and backends.CPU is None:
        pytest.skip(f"C++ kernels: {backends.cpu_status()}")
    if request.param == "reference":
        monkeypatch.setattr(backends, "CPU", None)
    return request.param


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize("logits_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_integers(path, dtype, logits_dtype, count):
    highest = STORED[dtype]
    exposures = torch.randint(0, highest + 1, (2, count, 3, 9, 21), dtype=torch.int32)
    exposures[:, :, :, 0, 0], exposures[:, :, :, 0, 1] = 0, highest
    logits = (3 * torch.randn(2, count, 9, 21)).to(logits_dtype).requires_grad_()
    fused, weights = functional.softmax_fuse(logits, exposures.to(dtype), return_weights=True)
    exact, _ = functional.softmax_fuse(
        logits.detach().double(), exposures.double(), return_weights=True
    )
    assert fused.dtype == dtype and weights.dtype == logits_dtype
    assert ((fused.double() - exact).abs() <= 0.5 + 1e-6 * highest).all()
    assert not fused.requires_grad
    weights[:, 0].sum().backward()
    assert logits.grad is not None and (logits.grad.abs().max() > 0) == (count > 1)


def test_ties_go_to_even(path):
    exposures = torch.tensor([[0, 1, 2, 254], [1, 2, 3, 255]], dtype=torch.uint8)
    logits = torch.zeros(1, 2, 1, 4)
    fused = functional.softmax_fuse(logits, exposures.reshape(1, 2, 1, 1, 4))
    assert fused.flatten().tolist() == [0, 2, 2, 254]


def test_logits_that_are_not_numbers_give_zero(path):
    logits = torch.tensor([float("nan"), 0.0]).reshape(1, 2, 1, 1)
    exposures = torch.full((1, 2, 1, 1, 1), 200, dtype=torch.uint8)
    assert functional.softmax_fuse(logits, exposures).item() == 0


@pytest.mark.parametrize("logits_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_mixed_floats(path, logits_dtype, dtype):
    exposures = torch.rand(2, 3, 3, 9, 21).to(dtype)
    logits = torch.randn(2, 3, 9, 21).to(logits_dtype)
    results = []
    for x, images in ((logits.double(), exposures.double()), (logits, exposures)):
        x, images = x.detach().requires_grad_(), images.detach().requires_grad_()
        fused, weights = functional.softmax_fuse(x, images, return_weights=True)
        (fused.double().square().sum() + weights.double().square().sum()).backward()
        results.append((fused, weights, x.grad, images.grad))
    assert [r.dtype for r in results[1]] == [dtype, logits_dtype, logits_dtype, dtype]
    # Rounded as ``grad_output`` and again as a result.
    eps = max(torch.finfo(dtype).eps, torch.finfo(logits_dtype).eps)
    for exact, ours in zip(*results, strict=True):
        assert (ours.double() - exact).abs().max() <= 4 * max(eps, 1e-7 if eps > 1e-10 else eps)
