"""Time softmax_fuse of two 24-megapixel exposures, and copies of as many bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, ops, reference
from fastmef.ops.fusion_kernels import Inputs, cpp_forward

HEIGHT, WIDTH = 4000, 6000
OP = "softmax_fuse, 24 MP x 2"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def inputs(dtype: torch.dtype, layout: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, HEIGHT, WIDTH, generator=generator)
    exposures = torch.randint(
        0, 256, (1, 2, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8
    )
    exposures = exposures.to(dtype)
    if layout == "channels last":
        exposures = exposures.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return logits, exposures


def eager(logits: Tensor, exposures: Tensor) -> Tensor:
    fused = reference.softmax_fuse(logits, exposures.float())[0]
    return fused if exposures.is_floating_point() else fused.round().to(exposures.dtype)


def fastmef(logits: Tensor, exposures: Tensor) -> Tensor:
    return ops.fusion.softmax_fuse(logits, exposures, want_weights=False)[0]


@pytest.mark.parametrize("layout", ["planar", "channels last"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile"])
def test_fuse(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    dtype: torch.dtype,
    layout: str,
    name: str,
) -> None:
    logits, exposures = inputs(dtype, layout)
    function = {"fastmef": fastmef, "eager": eager}.get(name) or compiled(eager)
    part = (..., slice(0, 50), slice(None))
    exact = reference.softmax_fuse(logits[part].double(), exposures[part].double())[0]
    # Integers may differ by half a level; float32 rounds values up to 255.
    allowed = (0.0 if dtype.is_floating_point else 0.5) + 1e-4
    assert (function(logits, exposures)[part] - exact).abs().max() < allowed
    clock(lambda: function(logits, exposures), OP, f"{name_of(dtype)}, {layout}", name)


@pytest.mark.skipif(backends.CPU is None, reason=f"C++ kernels: {backends.cpu_status()}")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
def test_fuse_into_memory_in_use(clock: Callable[..., None], dtype: torch.dtype) -> None:
    """Time the kernel alone: all pages of the result are already in use."""
    logits, exposures = inputs(dtype, "planar")
    given = Inputs(logits, exposures, 1.0, None)
    fused = torch.zeros_like(exposures[:, 0])
    cpp_forward(given, fused, None)
    assert torch.equal(fused, fastmef(logits, exposures))
    name = "fastmef into memory in use"
    clock(lambda: cpp_forward(given, fused, None), OP, f"{name_of(dtype)}, planar", name)


@pytest.mark.parametrize("into", ["new memory", "memory in use"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
def test_copy(clock: Callable[..., None], dtype: torch.dtype, into: str) -> None:
    logits, exposures = inputs(dtype, "planar")
    size = exposures.element_size()
    read = logits.numel() * 4 + exposures.numel() * size
    written = exposures.numel() // 2 * size
    # A copy reads as much as it writes. The result of the fusion is new memory as well.
    source = torch.ones((read + written) // 2 // 4, dtype=torch.float32)
    target = torch.zeros_like(source)
    copy = source.clone if into == "new memory" else lambda: target.copy_(source)
    assert torch.equal(copy(), source)
    clock(copy, OP, f"{name_of(dtype)}, planar", f"copy into {into}")
