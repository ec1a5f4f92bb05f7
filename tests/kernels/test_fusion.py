"""The Triton fusion against the float64 reference, for every storage type and layout."""

from __future__ import annotations

import pytest
import torch
from cases import INTEGERS, arrange, logits_for, stack
from torch import Tensor

from fastmef import backends, ops, reference

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def rounding(dtype: torch.dtype) -> float:
    """Return the rounding error of a value near 1; the interpreter truncates to bfloat16."""
    cut = backends.INTERPRETED and dtype == torch.bfloat16
    return (1.01 if cut else 0.51) * torch.finfo(dtype).eps


def check(
    exposures: Tensor,
    logits: Tensor,
    device: torch.device,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> None:
    given = logits.to(device), exposures.to(device)
    options = temperature, None if valid is None else valid.to(device)
    fused, weights = ops.fusion.softmax_fuse(*given, True, *options)
    exact, exact_weights = reference.softmax_fuse(
        logits.double(), exposures.double(), temperature, valid
    )
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
    alone, none = ops.fusion.softmax_fuse(*given, False, *options)
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


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_types_of_the_logits(dtype: torch.dtype, device: torch.device) -> None:
    for stored in (torch.uint8, torch.float16, torch.float32):
        exposures = stack(1, 2, 3, 2, 7, dtype=stored)
        check(exposures, logits_for(exposures, dtype), device)


def some_valid(logits: Tensor) -> Tensor:
    valid = stack(*logits.shape, dtype=torch.float32, seed=7) < 0.4
    assert (~valid.any(1)).any() and valid.any()
    return valid


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS], ids=str)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_temperature_and_validity(dtype: torch.dtype, count: int, device: torch.device) -> None:
    exposures = arrange(stack(2, count, 3, 3, 7, dtype=dtype), "strided")
    logits = arrange(logits_for(exposures), "transposed")
    check(exposures, logits, device, temperature=0.3)
    check(exposures, logits, device, 2.5, arrange(some_valid(logits), "strided"))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_bright_flat_area(dtype: torch.dtype, device: torch.device) -> None:
    exposures = (0.899 + 2e-3 * stack(1, 3, 3, 4, 9, dtype=torch.float64)).to(dtype)
    check(exposures, logits_for(exposures), device)


def test_empty(device: torch.device) -> None:
    for shape in ((0, 2, 3, 4, 5), (1, 2, 3, 0, 5)):
        exposures = torch.zeros(shape, device=device)
        with pytest.raises(RuntimeError, match="^fastmef: logits .* do not fit exposures"):
            ops.fusion.softmax_fuse(logits_for(exposures).to(device), exposures)


def check_gradients(
    base: Tensor, device: torch.device, layout: str = "planar", temperature: float = 1.0
) -> None:
    """Some exposures are invalid, and the temperature is not 1."""
    dtype = base.dtype
    base_logits = logits_for(base)
    batch, _, channels, *size = base.shape
    grad_fused = stack(batch, channels, *size, dtype=dtype, seed=5)
    grad_weights = stack(*base_logits.shape, dtype=dtype, seed=6)
    valid = None if temperature == 1 else some_valid(base_logits)
    results = []
    for function, to, where in (
        (reference.softmax_fuse, torch.float64, torch.device("cpu")),
        (ops.fusion.softmax_fuse, dtype, device),
    ):
        exposures = arrange(base, layout).to(where, to).requires_grad_()
        logits = arrange(base_logits, layout).to(where, to).requires_grad_()
        mask = None if valid is None else valid.to(where)
        outputs = function(logits, exposures, temperature=temperature, valid=mask)
        grad_output = (arrange(x, layout).to(where, to) for x in (grad_fused, grad_weights))
        torch.autograd.backward(outputs, grad_output)
        results.append((logits.grad, exposures.grad))
    for exact, ours in zip(*results, strict=True):
        assert ours is not None and exact is not None
        scale = 1 + exact.abs().max()
        assert (ours.cpu().double() - exact).abs().max() <= scale * (8e-7 + rounding(dtype))


@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_gradients(layout: str, dtype: torch.dtype, count: int, device: torch.device) -> None:
    check_gradients(stack(2, count, 3, 5, 13, dtype=dtype), device, layout)


@pytest.mark.parametrize("shape", [(1, 1, 3, 1, 1), (1, 2, 1, 1, 1), (2, 3, 3, 60, 1)])
def test_gradients_of_small_images(shape: tuple[int, ...], device: torch.device) -> None:
    check_gradients(stack(*shape, dtype=torch.float32), device)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients_with_temperature_and_validity(dtype: torch.dtype, device: torch.device) -> None:
    check_gradients(stack(2, 3, 3, 3, 7, dtype=dtype), device, temperature=0.7)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients_of_a_bright_flat_area(dtype: torch.dtype, device: torch.device) -> None:
    base = 0.899 + 2e-3 * stack(1, 3, 3, 4, 9, dtype=torch.float64)
    check_gradients(base.to(dtype), device)


def test_gradient_of_the_weights_of_integers(device: torch.device) -> None:
    exposures = stack(1, 3, 3, 2, 8, dtype=torch.uint8)
    x = logits_for(exposures).to(device).requires_grad_()
    exact = x.detach().double().cpu().requires_grad_()
    _, weights = ops.fusion.softmax_fuse(x, exposures.to(device))
    weights[:, 1].sum().backward()
    exact.softmax(1)[:, 1].sum().backward()
    assert (x.grad.cpu() - exact.grad).abs().max() <= 4e-7


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


@pytest.mark.parametrize("count", [2, 3, 5])
def test_not_a_number_and_infinite_logits(count: int, device: torch.device) -> None:
    exposures = stack(1, count, 3, 4, 4, dtype=torch.float32)
    logits = logits_for(exposures)
    exposures[0, 1, 2, 3, 0] = torch.nan
    logits[0, -1, 1, 1] = torch.nan
    logits[0, 0, 2, 1] = torch.nan
    logits[0, 0, 2, 2] = torch.inf
    logits[0, 1, 2, 3] = torch.inf
    logits[0, 0, 3, 2] = -torch.inf
    logits[0, :, 3, 3] = -torch.inf
    results = []
    for function, where in ((ops.fusion.softmax_fuse, device), (reference.softmax_fuse, "cpu")):
        x = logits.to(where).requires_grad_()
        fused, weights = function(x, exposures.to(where))
        (fused.sum(1) + weights[:, 0]).sum().backward()
        results.append([t.detach().cpu() for t in (fused, weights, x.grad)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-6, equal_nan=True)


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
