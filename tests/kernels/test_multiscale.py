"""Multiscale fusion by Triton against the float64 reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brackets import bracket, check_fused, small_logits, some_valid
from cases import INTEGERS, stack
from torch import Tensor

from fastmef import backends, functional, reference
from fastmef.ops import multiscale
from fastmef.ops.common.operation import OPERATIONS

# The interpreter is slow; windows of 3×3 pixels are enough where the variance is not in question.
SHAPES = [
    (2, 3, 1, 1, 0),
    (2, 3, 2, 3, 1),
    (3, 1, 7, 5, 2),
    (5, 3, 4, 9, 1),
    (9, 4, 2, 3, 1),
    (2, 3, 17, 140, 1),
]
STORED = [*INTEGERS, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape: tuple[int, ...], device: torch.device) -> None:
    check_fused(bracket(1, *shape[:4], dtype=torch.float32), shape[-1], device=device)


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
def test_stored_types(dtype: torch.dtype, layout: str, device: torch.device) -> None:
    exposures = bracket(1, 2, 3, 7, 10, dtype=dtype)
    assert OPERATIONS["multiscale_fuse"].backend(exposures.to(device)) == backends.TRITON
    fused = check_fused(exposures, 1, layout, device)
    if layout == "channels_last":
        assert fused.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize(
    "options",
    [
        {"radius": 0},
        {"radius": 7, "floor": 1e-4},
        {"radius": 8},  # by the reference
        {"contrast": (1.2, -0.5), "radius": 1},
        {"knee": None, "radius": 1},
        {"knee": (0.3, 0.5), "contrast": 3.0, "radius": 1},
        {"shares": torch.tensor([[0.5, 0.5, 1], [0.0, 2, 1]]), "radius": 1},
    ],
    ids=str,
)
def test_options(options: dict[str, Any], device: torch.device) -> None:
    for dtype in (torch.uint8, torch.float32):
        check_fused(bracket(2, 3, 3, 5, 7, dtype=dtype), 2, device=device, **options)


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize(("levels", "size"), [(0, (4, 7)), (1, (3, 3)), (2, (2, 1))])
def test_a_base_between_two_levels(
    dtype: torch.dtype, levels: int, size: tuple[int, int], device: torch.device
) -> None:
    exposures = bracket(1, 2, 3, 7, 10, dtype=dtype)
    check_fused(exposures, levels, device=device, size=size, radius=1)


def test_valid_goes_to_the_reference(device: torch.device) -> None:
    exposures = bracket(1, 3, 3, 11, 14, dtype=torch.float32)
    check_fused(exposures, 2, device=device, valid=some_valid(exposures))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_levels_of_integers_are_exact(dtype: torch.dtype, device: torch.device) -> None:
    exposures = bracket(2, 2, 3, 13, 18, dtype=dtype)
    ours = functional.exposure_pyramid(exposures.to(device), 3)
    expected = reference.exposure_pyramid(exposures, 3)
    assert all(torch.equal(x.cpu(), y) for x, y in zip(ours.inner, expected.inner, strict=True))
    torch.testing.assert_close(ours.base.cpu(), expected.base, rtol=2e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("knee", [None, (0.3, 0.6)])
@pytest.mark.parametrize("size", [(5, 6), (6, 3), (1, 2)])
def test_gradients(
    dtype: torch.dtype,
    knee: Any,
    size: tuple[int, int],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiscale, "gradients", None)  # no backward pass of the reference
    exposures = bracket(2, 2, 3, *size, dtype=dtype)
    logits = small_logits(exposures, 1)
    weights = (stack(2, 3, *size, dtype=torch.float64, seed=5) - 0.4).to(dtype)

    def gradient(fuse: Any, logits: Tensor, exposures: Tensor) -> Tensor:
        x = logits.detach().requires_grad_()
        fused = fuse(x, exposures)
        fused.backward(weights.to(fused))
        return x.grad.double().cpu()

    def plain(x: Tensor, images: Tensor) -> Tensor:
        return reference.multiscale_fuse(x, images, 1, knee=knee, radius=1)

    def ours(x: Tensor, images: Tensor) -> Tensor:
        return functional.multiscale_fuse(x, images, knee=knee, radius=1)

    exact = gradient(plain, logits.double(), exposures.double())
    single = gradient(plain, logits, exposures.float())
    found = gradient(ours, logits.to(device), exposures.to(device))
    limit = 2 * (single - exact).abs().max() + 8e-7 * (1 + exact.abs().max())
    assert (found - exact).abs().max() <= limit


def test_nan_stays_where_its_windows_reach(device: torch.device) -> None:
    exposures = bracket(1, 2, 3, 22, 8, dtype=torch.float32)
    exposures[0, 0, 1, 1, 3] = torch.nan
    logits = small_logits(exposures, 1).to(device)
    fused = functional.multiscale_fuse(logits, exposures.to(device)).cpu()
    exact = reference.multiscale_fuse(logits.double().cpu(), exposures.double(), 1)
    assert torch.equal(fused.isnan(), exact.isnan()) and exact[0, :, 12:].isfinite().all()


def test_same_bits_again(device: torch.device) -> None:
    exposures = bracket(1, 3, 3, 6, 7, dtype=torch.uint8).to(device)
    logits = small_logits(exposures, 2).to(device)
    first, second = (functional.multiscale_fuse(logits, exposures, radius=1) for _ in range(2))
    assert torch.equal(first, second)
