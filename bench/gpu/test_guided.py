"""Time guided_upsample_fuse of two 24-megapixel exposures with logits at an eighth of each side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional
from fastmef.reference import guided as reference

HEIGHT, WIDTH, SHARE = 4000, 6000, 8
DTYPES = {"uint8": torch.uint8, "float32": torch.float32}


def eager(logits: Tensor, exposures: Tensor) -> Tensor:
    if exposures.is_floating_point():
        return reference.guided_upsample_fuse(logits, exposures)
    fused = reference.guided_upsample_fuse(logits, exposures.float() / 255)
    return (255 * fused).round().to(exposures.dtype)


@pytest.mark.parametrize("layout", ["planar", "channels last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["fastmef", "triton", "eager", "torch.compile"])
def test_guided(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    triton_only: Callable[[], None],
    dtype: str,
    layout: str,
    name: str,
) -> None:
    batch, count, height, width = fitted(1, 2, HEIGHT, WIDTH)
    exposures = scene(batch, count, 3, height, width)
    if dtype == "uint8":
        exposures = (255 * exposures).round().to(torch.uint8)
    if layout == "channels last":
        exposures = exposures.movedim(2, -1).contiguous().movedim(-1, 2)
    logits = scene(batch, count, height // SHARE, width // SHARE, seed=1)
    if name == "triton":
        triton_only()
    others = {"eager": eager, "torch.compile": compiled(eager)}
    function = others.get(name, functional.guided_upsample_fuse)
    unit = 255 if dtype == "uint8" else 1
    exact = reference.guided_upsample_fuse(logits.double(), exposures.double() / unit)
    # Integers are rounded to the nearest.
    allowed = 1e-4 + (0.5 / 255 if dtype == "uint8" else 0.0)
    assert (function(logits, exposures).double() / unit - exact).abs().max() <= allowed
    del exact
    # The exposures are read twice: for the guide, and for the fusion.
    size = exposures.numel() * exposures.element_size()
    moved = 2 * size + size // count + 4 * logits.numel()
    group = f"guided_upsample_fuse, 24 MP x 2 {dtype}, {layout}"
    clock(lambda: function(logits, exposures), group, moved)
