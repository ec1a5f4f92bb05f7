"""Guided full-size fusion on Triton: sizes, and logits that are not finite."""

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
    # The sum a g + b is rounded relative to a g, and the result changes by this much.
    guide = reference.luma_guide(exposures.double() / highest, torch.float64)
    small = torch.nn.functional.adaptive_avg_pool2d(guide, logits.shape[-2:])
    steepest = reference.guided_coefficients(logits.double(), small, 2, 1e-4)[0].abs().max()
    limit = 2 * (usual - exact).abs().max() + 1e-7 * (4 + steepest)
    assert error <= limit + rounding


@pytest.mark.parametrize(("count", "small", "full"), CASES)
def test_values(count, small, full, device) -> None:
    check(4 * torch.randn(2, count, *small), stack(2, count, 3, *full), device)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_make_their_image_nan(bad, device) -> None:
    logits = torch.randn(2, 3, 3, 4)
    logits[0, 2, 1, 1] = bad
    for dtype in (torch.float32, torch.uint8):
        exposures = stack(2, 3, 3, 6, 9, dtype=dtype)
        got = functional.guided_upsample_fuse(logits.to(device), exposures.to(device))
        # Integers store NaN as 0.
        assert (got[0].isnan() if dtype.is_floating_point else got[0] == 0).all()
        assert got[1].isfinite().all() and got[1].any()
