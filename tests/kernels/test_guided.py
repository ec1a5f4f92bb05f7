"""Guided full-size fusion by Triton against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional
from fastmef.reference import guided as reference

INTEGERS = {torch.uint8: 255, torch.uint16: 65535}
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
    assert backends.choose("guided_upsample_fuse", logits, exposures) == backends.TRITON
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


def test_gradients_are_those_of_the_reference(device) -> None:
    logits, exposures = torch.randn(1, 2, 3, 4), stack(1, 2, 3, 6, 9)
    found = []
    for function in (functional.guided_upsample_fuse, reference.guided_upsample_fuse):
        x, images = (t.to(device).requires_grad_() for t in (logits.clone(), exposures.clone()))
        function(x, images).square().sum().backward()
        found.append((x.grad, images.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_same_bits_again(device) -> None:
    logits, exposures = torch.randn(1, 3, 3, 4).to(device), stack(1, 3, 3, 6, 9).to(device)
    first, second = (functional.guided_upsample_fuse(logits, exposures) for _ in range(2))
    assert torch.equal(first, second)
