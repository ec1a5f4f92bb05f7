"""The Triton SSIM against the float64 reference: map, mean and both gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, ops, reference
from fastmef.ops.common.operation import OPERATIONS

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
BORDERS = ("valid", "zero", "reflect")
# A smaller window than the default: the interpreter takes its time for every tap.
OPTIONS: dict[str, Any] = {
    "window": 3,
    "sigma": 1.5,
    "k1": 0.01,
    "k2": 0.03,
    "data_range": 1.0,
    "luminance": True,
    "border": "valid",
    "reduction": "none",
}


def pair(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return two images that share half of their structure."""
    generator = torch.Generator().manual_seed(0)
    common, x, y = torch.rand((3, *shape), generator=generator)
    ramp = torch.linspace(0, 0.4, shape[-1])
    return (0.3 * (common + x) + ramp).to(dtype), (0.2 * (common + y) + 0.3).to(dtype)


def evaluate(
    function: Any, a: Tensor, b: Tensor, wanted: tuple[bool, bool], **options: Any
) -> list[Tensor]:
    x, y = a.detach().requires_grad_(wanted[0]), b.detach().requires_grad_(wanted[1])
    values = function(x, y, **options)
    if any(wanted):
        generator = torch.Generator().manual_seed(1)
        grad_output = torch.randint(-16, 17, values.shape, generator=generator).to(values) / 16
        values.backward(grad_output if values.ndim else torch.ones_like(values))
    results = [values.detach(), *(z.grad for z in (x, y) if z.grad is not None)]
    assert len(results) == 1 + sum(wanted)
    assert all(z.dtype == a.dtype for z in results[1:])
    return [z.cpu().double() for z in results]


def check(
    a: Tensor,
    b: Tensor,
    device: torch.device,
    wanted: tuple[bool, bool] = (True, True),
    cancelling: float = 0.0,
    **changes: Any,
) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding.

    ``cancelling`` is a further allowance for gradients.
    """
    options = {**OPTIONS, **changes}
    assert OPERATIONS["ssim"].backend(a.to(device), b.to(device)) == backends.TRITON
    exact = evaluate(reference.ssim, a.double(), b.double(), wanted, **options)
    single = evaluate(reference.ssim, a.float(), b.float(), wanted, **options)
    ours = evaluate(ops.ssim.ssim, a.to(device), b.to(device), wanted, **options)
    # The interpreter truncates to bfloat16 instead of rounding.
    cut = backends.INTERPRETED and a.dtype == torch.bfloat16
    unit = torch.finfo(a.dtype).eps * (1 if cut else 0.5)
    for number, (e, s, o) in enumerate(zip(exact, single, ours, strict=True)):
        assert o.shape == e.shape
        rounding = (unit + 5e-7) * e.abs().max() if e.ndim else 5e-7
        rounding += cancelling if number else 0
        assert (o - e).abs().max() <= 2 * (s - e).abs().max() + rounding


@pytest.mark.parametrize("wanted", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_only_what_is_wanted(
    reduction: str, wanted: tuple[bool, bool], device: torch.device
) -> None:
    check(*pair(2, 5, 6), device, wanted, reduction=reduction)


def test_sum_over_several_programs(device: torch.device) -> None:
    check(*pair(2, 12, 133), device, (False, False), reduction="mean")


def test_bright_flat_area_keeps_its_precision(device: torch.device) -> None:
    a, b = pair(1, 12, 12)
    a, b = 0.9 + 1e-3 * (a - 0.5), 0.9 + 1e-3 * (b - 0.5)
    for luminance in (False, True):
        options = {**OPTIONS, "luminance": luminance, "window": 5}
        exact = reference.ssim(a.double(), b.double(), **options)
        ours = ops.ssim.ssim(a.to(device), b.to(device), **options).cpu()
        assert (ours - exact).abs().max() <= 4e-7


@pytest.mark.parametrize("luminance", [False, True])
def test_gradients_of_a_bright_flat_area(luminance: bool, device: torch.device) -> None:
    for dtype in FLOATS:
        a, b = ((0.9 + 2e-3 * (x - 0.5)).to(dtype) for x in pair(1, 5, 6))
        check(a, b, device, luminance=luminance)
