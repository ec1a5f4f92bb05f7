"""The Triton fusion against the float64 reference, for every storage type and layout."""

from __future__ import annotations

import pytest
import torch
from cases import INTEGERS, arrange, logits_for, stack
from torch import Tensor

from fastmef import backends, ops, reference

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def rounding(dtype: torch.dtype) -> float:
    """Of one number near 1: to the nearest, but the interpreter truncates to bfloat16."""
    cut = backends.INTERPRETED and dtype == torch.bfloat16
    return (1.01 if cut else 0.51) * torch.finfo(dtype).eps


def check(exposures: Tensor, logits: Tensor, device: torch.device) -> None:
    fused, weights = ops.fusion.softmax_fuse(logits.to(device), exposures.to(device))
    exact, exact_weights = reference.softmax_fuse(logits.double(), exposures.double())
    assert fused.dtype == exposures.dtype and fused.shape == exact.shape
    assert weights.dtype == logits.dtype
    error = (fused.cpu().double() - exact).abs().max()
    if exposures.dtype in INTEGERS:
        # The nearest integer, except where float32 decides a tie differently.
        assert error <= 0.5 + 1e-6 * INTEGERS[exposures.dtype]
    else:
        assert error <= 4e-7 + rounding(exposures.dtype)
    error = (weights.cpu().double() - exact_weights).abs().max()
    assert error <= 4e-7 + rounding(logits.dtype)
    alone, none = ops.fusion.softmax_fuse(logits.to(device), exposures.to(device), False)
    assert torch.equal(alone, fused) and none.numel() == 0


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided", "transposed"])
@pytest.mark.parametrize("count", [2, 5])
def test_values(dtype: torch.dtype, layout: str, count: int, device: torch.device) -> None:
    exposures = arrange(stack(2, count, 3, 5, 33, dtype=dtype), layout)
    check(exposures, logits_for(exposures), device)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 2, 3, 1, 1),
        (1, 3, 1, 1, 3000),
        (1, 2, 3, 60, 1),
        (3, 17, 2, 2, 9),
        (2, 8, 3, 3, 9),
        (1, 40, 3, 3, 3),
    ],
)
def test_shapes(shape: tuple[int, ...], device: torch.device) -> None:
    for layout in ("planar", "strided"):
        exposures = arrange(stack(*shape, dtype=torch.float32), layout)
        check(exposures, arrange(logits_for(exposures), layout), device)


def test_empty(device: torch.device) -> None:
    for shape in ((0, 2, 3, 4, 5), (1, 2, 3, 0, 5)):
        exposures = torch.zeros(shape, device=device)
        with pytest.raises(RuntimeError, match="^fastmef: logits .* do not fit exposures"):
            ops.fusion.softmax_fuse(logits_for(exposures).to(device), exposures)


@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_gradients(layout: str, dtype: torch.dtype, count: int, device: torch.device) -> None:
    base = stack(2, count, 3, 5, 40, dtype=dtype)
    base_logits = logits_for(base)
    by_fused = stack(2, 3, 5, 40, dtype=dtype, seed=5)
    by_weights = stack(2, count, 5, 40, dtype=dtype, seed=6)
    results = []
    for function, to, where in (
        (reference.softmax_fuse, torch.float64, torch.device("cpu")),
        (ops.fusion.softmax_fuse, dtype, device),
    ):
        exposures = arrange(base, layout).to(where, to).requires_grad_()
        logits = base_logits.to(where, to).requires_grad_()
        outputs = function(logits, exposures)
        upstream = (arrange(by_fused, layout).to(where, to), by_weights.to(where, to))
        torch.autograd.backward(outputs, upstream)
        results.append((logits.grad, exposures.grad))
    for exact, ours in zip(*results, strict=True):
        assert ours is not None and exact is not None
        scale = 1 + exact.abs().max()
        assert (ours.cpu().double() - exact).abs().max() <= scale * (8e-7 + rounding(dtype))


def test_each_gradient_alone(device: torch.device) -> None:
    exposures = stack(1, 3, 3, 4, 9, dtype=torch.float32).to(device)
    logits = logits_for(exposures).to(device)
    x, images = logits.clone().requires_grad_(), exposures.clone().requires_grad_()
    fused, weights = ops.fusion.softmax_fuse(x, images)
    (3 * fused).sum().backward()
    for_x, for_images = x.grad, images.grad
    assert for_x is not None and for_images is not None
    x = logits.clone().requires_grad_()
    (3 * ops.fusion.softmax_fuse(x, exposures)[0]).sum().backward()
    assert torch.equal(x.grad, for_x)
    images = exposures.clone().requires_grad_()
    (3 * ops.fusion.softmax_fuse(logits, images)[0]).sum().backward()
    assert torch.equal(images.grad, for_images)
    x, images = logits.clone().requires_grad_(), exposures.clone().requires_grad_()
    torch.square(ops.fusion.softmax_fuse(x, images)[1]).sum().backward()
    assert images.grad is not None and not images.grad.any()
    exact = logits.double().cpu().requires_grad_()
    torch.square(exact.softmax(1)).sum().backward()
    assert (x.grad.cpu() - exact.grad).abs().max() <= 1e-6


def test_extreme_logits_select_one_exposure(device: torch.device) -> None:
    exposures = stack(1, 3, 3, 4, 4, dtype=torch.float32).to(device)
    logits = torch.tensor([-1e30, 1e30, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4).to(device)
    fused, weights = ops.fusion.softmax_fuse(logits, exposures)
    assert torch.equal(fused, exposures[:, 1])
    assert weights[0, :, 0, 0].tolist() == [0, 1, 0]


def test_nan_stays_nan(device: torch.device) -> None:
    exposures = stack(1, 3, 3, 4, 4, dtype=torch.float32)
    logits = logits_for(exposures)
    exposures[0, 1, 2, 3, 0] = torch.nan
    logits[0, 2, 1, 1] = torch.nan
    fused, weights = ops.fusion.softmax_fuse(logits.to(device), exposures.to(device))
    exact, exact_weights = reference.softmax_fuse(logits, exposures)
    assert torch.equal(fused.cpu().isnan(), exact.isnan())
    assert torch.equal(weights.cpu().isnan(), exact_weights.isnan())


def test_integers_round_to_even_and_keep_the_range(device: torch.device) -> None:
    for dtype, highest in INTEGERS.items():
        low = torch.tensor([0, 1, 2, 3, highest - 1, highest], dtype=torch.int32)
        high = torch.tensor([1, 2, 3, 4, highest, highest], dtype=torch.int32)
        exposures = torch.stack((low, high)).to(dtype).reshape(1, 2, 1, 1, 6).to(device)
        logits = torch.zeros(1, 2, 1, 6, device=device)
        fused, _ = ops.fusion.softmax_fuse(logits, exposures)
        exact = torch.round((low + high) / 2).tolist()
        assert fused.flatten().tolist() == exact


def test_layout_is_kept(device: torch.device) -> None:
    exposures = arrange(stack(1, 2, 3, 8, 9, dtype=torch.uint8), "channels_last").to(device)
    fused, _ = ops.fusion.softmax_fuse(logits_for(exposures).to(device), exposures)
    assert fused.permute(0, 2, 3, 1).is_contiguous()


def test_same_bits_again(device: torch.device) -> None:
    exposures = stack(2, 3, 3, 20, 30, dtype=torch.float32).to(device)
    logits = logits_for(exposures).to(device)
    first, second = (ops.fusion.softmax_fuse(logits, exposures) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
