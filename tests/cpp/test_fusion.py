"""The C++ fusion against the float64 reference, for every storage type and layout."""

from __future__ import annotations

import pytest
import torch
from cases import INTEGERS, arrange, logits_for, same_bits_in_threads, stack

from fastmef import ops, reference

pytestmark = pytest.mark.usefixtures("kernels")

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided", "transposed"])
@pytest.mark.parametrize("shape", [(2, 2, 3, 17, 33), (1, 5, 3, 4, 600), (1, 8, 1, 1, 1)])
def test_values(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    exposures = arrange(stack(*shape, dtype=dtype), layout)
    logits = logits_for(exposures)
    fused, weights = ops.fusion.softmax_fuse(logits, exposures)
    exact, exact_weights = reference.softmax_fuse(logits.double(), exposures.double())
    assert fused.dtype == dtype and fused.shape == exact.shape
    assert weights.dtype == logits.dtype and weights.shape == logits.shape
    if dtype in INTEGERS:
        # The nearest integer, except where float32 decides a tie differently.
        assert (fused.double() - exact).abs().max() <= 0.5 + 1e-6 * INTEGERS[dtype]
    else:
        eps = torch.finfo(dtype).eps
        assert (fused.double() - exact).abs().max() <= (0.51 if eps > 1e-4 else 4) * eps
        assert (weights.double() - exact_weights).abs().max() <= 4e-7 + 0.51 * eps
    lowest, highest = exposures.double().amin(1), exposures.double().amax(1)
    slack = 0 if dtype in INTEGERS else 1e-6
    assert ((fused.double() >= lowest - slack) & (fused.double() <= highest + slack)).all()


def test_layout_is_kept() -> None:
    exposures = arrange(stack(1, 2, 3, 8, 9, dtype=torch.uint8), "channels_last")
    fused, _ = ops.fusion.softmax_fuse(logits_for(exposures), exposures)
    assert fused.permute(0, 2, 3, 1).is_contiguous()


def test_every_half_and_bfloat_value_survives() -> None:
    patterns = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    for dtype in (torch.float16, torch.bfloat16):
        values = patterns.view(dtype).reshape(1, 1, 1, 256, 256)
        logits = torch.zeros(1, 1, 256, 256, dtype=dtype)
        fused, _ = ops.fusion.softmax_fuse(logits, values)
        torch.testing.assert_close(fused, values[:, 0], rtol=0, atol=0, equal_nan=True)


def test_halves_round_to_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float16, torch.bfloat16):
        for magnitude in (1e-9, 1e-7, 1e-5, 1.0, 1e4, 7e4):
            values = (magnitude * torch.randn(1, 2, 1, 64, 64, generator=generator)).to(dtype)
            logits = torch.zeros(1, 2, 64, 64, dtype=dtype)
            fused, _ = ops.fusion.softmax_fuse(logits, values)
            exact = (0.5 * values[:, 0].float() + 0.5 * values[:, 1].float()).to(dtype)
            torch.testing.assert_close(fused, exact, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_gradients(layout: str, dtype: torch.dtype, count: int) -> None:
    base = stack(2, count, 3, 9, 40, dtype=dtype)
    grad_output = stack(2, 3, 9, 40, dtype=torch.float64, seed=5).to(dtype)
    grad_weights = stack(2, count, 9, 40, dtype=torch.float64, seed=6).to(dtype)
    results = []
    for function, to in (
        (reference.softmax_fuse, torch.float64),
        (ops.fusion.softmax_fuse, dtype),
    ):
        exposures = arrange(base, layout).to(to).detach().requires_grad_()
        logits = logits_for(base).to(to).requires_grad_()
        fused, weights = function(logits, exposures)
        torch.autograd.backward((fused, weights), (grad_output.to(to), grad_weights.to(to)))
        results.append((logits.grad, exposures.grad))
    eps = torch.finfo(dtype).eps
    for exact, ours in zip(*results, strict=True):
        assert ours is not None and exact is not None
        assert (ours.double() - exact).abs().max() <= 6 * eps * (1 + exact.abs().max())


def test_gradcheck() -> None:
    exposures = stack(1, 3, 2, 4, 5, dtype=torch.float64).requires_grad_()
    logits = logits_for(exposures.detach()).requires_grad_()
    assert torch.autograd.gradcheck(ops.fusion.softmax_fuse, (logits, exposures))
    assert torch.autograd.gradcheck(
        lambda x: ops.fusion.softmax_fuse(x, exposures.detach())[1], (logits,)
    )


def test_extreme_logits_select_one_exposure() -> None:
    exposures = stack(1, 3, 3, 4, 4, dtype=torch.float32)
    logits = torch.tensor([-1e30, 1e30, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    fused, weights = ops.fusion.softmax_fuse(logits, exposures)
    assert torch.equal(fused, exposures[:, 1])
    assert torch.equal(weights[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]))
    fused, _ = ops.fusion.softmax_fuse(logits[:, :2], exposures[:, :2])
    assert torch.equal(fused, exposures[:, 1])


def test_same_bits_for_any_number_of_threads() -> None:
    exposures = stack(2, 2, 3, 200, 300, dtype=torch.float32)
    logits = logits_for(exposures)
    same_bits_in_threads(lambda: ops.fusion.softmax_fuse(logits, exposures)[:1], (1, 2, 5))
