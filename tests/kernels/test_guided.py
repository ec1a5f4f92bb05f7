"""Guided full-size fusion by Triton against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional
from fastmef.ops.common.operation import OPERATIONS
from fastmef.reference import guided as reference

INTEGERS = {torch.uint8: 255, torch.uint16: 65535}
HALVES = (torch.float16, torch.bfloat16)
CASES = [  # exposures, size of the logits, size of the exposures
    (2, (4, 5), (16, 20)),
    (5, (3, 5), (7, 13)),
    (3, (6, 9), (6, 9)),
    (1, (1, 1), (5, 3)),
    (2, (1, 40), (1, 300)),
    (2, (1, 1), (1, 1)),
]


def stack(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    images = torch.rand(shape, dtype=torch.float64)
    if dtype in INTEGERS:
        return (images * INTEGERS[dtype]).round().to(dtype)
    return images.to(dtype)


def check(logits: Tensor, exposures: Tensor, device: torch.device) -> None:
    assert OPERATIONS["guided_upsample_fuse"].backend(exposures, logits) == backends.TRITON
    got = functional.guided_upsample_fuse(logits.to(device), exposures.to(device)).cpu()
    highest = INTEGERS.get(exposures.dtype, 1)
    # In double a result is not rounded, whatever the exposures are stored in.
    exact = reference.guided_upsample_fuse(logits.double(), exposures.double() / highest)
    usual = reference.guided_upsample_fuse(logits.float(), exposures.float() / highest)
    assert got.dtype == exposures.dtype and got.shape == exact.shape
    error = (got.double() / highest - exact).abs().max()
    if exposures.dtype in INTEGERS:
        rounding = 0.5 / highest
    else:
        cut = backends.INTERPRETED and exposures.dtype == torch.bfloat16  # truncates
        rounding = (1.01 if cut else 0.51) * torch.finfo(exposures.dtype).eps
    # Logits a g + b are rounded at the size of a g, and move the result by that.
    guide = reference.luma_guide(exposures.double() / highest, torch.float64)
    small = torch.nn.functional.adaptive_avg_pool2d(guide, logits.shape[-2:])
    steepest = reference.guided_coefficients(logits.double(), small, 2, 1e-4)[0].abs().max()
    limit = 2 * (usual - exact).abs().max() + 1e-7 * (4 + steepest)
    assert error <= limit + rounding


@pytest.mark.parametrize(("count", "small", "full"), CASES)
def test_values(count, small, full, device) -> None:
    check(4 * torch.randn(2, count, *small), stack(2, count, 3, *full), device)


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_stored_types(dtype, channels_last, device) -> None:
    exposures = stack(1, 2, 3, 9, 14, dtype=dtype)
    if channels_last:
        exposures = exposures.movedim(2, -1).contiguous().movedim(-1, 2)
    check(4 * torch.randn(1, 2, 3, 4), exposures, device)


def test_strided(device) -> None:
    exposures = stack(1, 2, 3, 18, 42)[..., ::2, 1::3]
    check(4 * torch.randn(1, 2, 8, 3).mT, exposures, device)


def test_bright_flat(device) -> None:
    exposures = 0.9 + 1e-3 * stack(1, 2, 3, 16, 16)
    check(20 + 4 * torch.randn(1, 2, 8, 8), exposures, device)


def test_nan_stays_nan(device) -> None:
    exposures = stack(1, 2, 3, 8, 8)
    exposures[0, 0, 1, 2, 3] = torch.nan
    logits = torch.randn(1, 2, 1, 1)
    got = functional.guided_upsample_fuse(logits.to(device), exposures.to(device))
    assert got.isnan().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_make_their_image_nan(bad, device) -> None:
    logits = torch.randn(2, 3, 3, 4)
    logits[0, 2, 1, 1] = bad
    for dtype in (torch.float32, torch.uint8):
        exposures = stack(2, 3, 3, 6, 9, dtype=dtype)
        got = functional.guided_upsample_fuse(logits.to(device), exposures.to(device))
        # A pixel that is not a number is stored as 0.
        assert (got[0].isnan() if dtype.is_floating_point else got[0] == 0).all()
        assert got[1].isfinite().all() and got[1].any()


@pytest.mark.parametrize(
    ("count", "dtype"), [(2, torch.float32), (3, HALVES[0]), (5, HALVES[1])], ids=str
)
@pytest.mark.parametrize("flat", [False, True])
def test_gradients(count, dtype, flat, device) -> None:
    logits = torch.randn(1, count, 4, 3).to(dtype).mT
    exposures = stack(1, count, 3, 12, 9)[..., ::2, :]
    exposures = (0.9 + 2e-3 * (exposures - 0.5) if flat else exposures).to(dtype)
    found = []
    for function, where, to in (
        (functional.guided_upsample_fuse, device, dtype),
        (reference.guided_upsample_fuse, "cpu", torch.float32),
        (reference.guided_upsample_fuse, "cpu", torch.float64),
    ):
        x, images = (t.to(where, to).detach().requires_grad_() for t in (logits, exposures))
        fused = function(x, images)
        upstream = torch.linspace(-1, 1, fused.numel()).reshape(fused.shape).to(dtype)
        fused.backward(upstream.to(fused))
        assert x.grad.dtype == to
        found.append([t.cpu().double() for t in (x.grad, images.grad)])
    for got, usual, exact in zip(*found, strict=True):
        unit = torch.finfo(dtype).eps
        limit = 2 * (usual - exact).abs().max() + (unit + 1e-6) * exact.abs().max()
        assert (got - exact).abs().max() <= limit


def test_same_bits_again(device) -> None:
    logits, exposures = torch.randn(1, 3, 3, 4).to(device), stack(1, 3, 3, 6, 9).to(device)
    first, second = (functional.guided_upsample_fuse(logits, exposures) for _ in range(2))
    assert torch.equal(first, second)
