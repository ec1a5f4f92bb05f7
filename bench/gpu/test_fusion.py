"""Time softmax_fuse of two 24-megapixel exposures, and a copy of as many bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.collect import COPY
from fastmef import functional, reference

HEIGHT, WIDTH = 4000, 6000
DTYPES = {"uint8": torch.uint8, "float32": torch.float32}


def bytes_moved(logits: Tensor, exposures: Tensor) -> int:
    return logits.numel() * 4 + exposures.numel() * exposures.element_size() * 3 // 2


def inputs(
    size: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(1, 2, *size, device=device, generator=generator)
    exposures = torch.randint(
        0, 256, (1, 2, 3, *size), device=device, generator=generator, dtype=torch.uint8
    ).to(dtype)
    if layout == "channels last":
        exposures = exposures.movedim(2, -1).contiguous().movedim(-1, 2)
    return logits, exposures


def eager(logits: Tensor, exposures: Tensor) -> Tensor:
    fused = reference.softmax_fuse(logits, exposures.float())[0]
    return fused if exposures.is_floating_point() else fused.round().to(exposures.dtype)


@pytest.mark.parametrize("layout", ["planar", "channels last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["fastmef", "triton", "eager", "torch.compile"])
def test_fuse(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    device: torch.device,
    fitted: Callable[..., tuple[int, ...]],
    triton_only: Callable[[], None],
    dtype: str,
    layout: str,
    name: str,
) -> None:
    height, width = fitted(HEIGHT, WIDTH)
    logits, exposures = inputs((height, width), DTYPES[dtype], layout, device)
    if name == "triton":
        triton_only()
    others = {"eager": eager, "torch.compile": compiled(eager)}
    function = others.get(name, functional.softmax_fuse)
    result = function(logits, exposures)
    for rows in (slice(0, 50), slice(max(0, height - 50), height)):
        part = (..., rows, slice(None))
        exact = reference.softmax_fuse(logits[part].double(), exposures[part].double())[0]
        # Integers may differ by half a level; float32 rounds values up to 255.
        allowed = (0.5 if dtype == "uint8" else 0.0) + 2e-4
        assert (result[part] - exact).abs().max() < allowed
    group = f"softmax_fuse, 24 MP x 2 {dtype}, {layout}"
    clock(lambda: function(logits, exposures), group, bytes_moved(logits, exposures))


@pytest.mark.parametrize("dtype", DTYPES)
def test_copy(
    clock: Callable[..., None],
    device: torch.device,
    fitted: Callable[..., tuple[int, ...]],
    dtype: str,
) -> None:
    moved = bytes_moved(*inputs(fitted(HEIGHT, WIDTH), DTYPES[dtype], "planar", device))
    # A copy reads as much as it writes.
    source = torch.ones(moved // 2, dtype=torch.uint8, device=device)
    clock(source.clone, f"softmax_fuse, 24 MP x 2 {dtype}, planar", moved)


def test_bandwidth(
    clock: Callable[..., None], device: torch.device, fitted: Callable[..., tuple[int, ...]]
) -> None:
    source = torch.ones(fitted(2**15, 2**15), dtype=torch.uint8, device=device)
    clock(source.clone, COPY, 2 * source.numel())
