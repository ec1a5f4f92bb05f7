"""Time multiscale_fuse of two 24-megapixel exposures, and with its gradient at training size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.competitors import competitors
from fastmef import functional, reference
from fastmef.reference.pyramid import halved_size

HEIGHT, WIDTH, LEVELS = 4000, 6000, 4
OP = "multiscale_fuse, 24 MP x 2"
TRAINED = (1, 2, 3, 768, 912)  # 0.7 megapixels
TRAINED_LEVELS = 2


def bracket(layout: str) -> tuple[Tensor, Tensor]:
    """Return logits and exposures of noise; the time does not depend on their values."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 2, 3, HEIGHT, WIDTH)
    exposures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    logits = torch.randn(1, 2, *halved_size((HEIGHT, WIDTH), LEVELS), generator=generator)
    if layout == "channels last":
        exposures = exposures.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    return logits, exposures


def eager(logits: Tensor, exposures: Tensor) -> Tensor:
    return reference.multiscale_fuse(logits, exposures, LEVELS)


@pytest.mark.parametrize("layout", ["planar", "channels last"])
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile"])
def test_fuse(
    clock: Callable[..., None], compiled: Callable[..., Any], layout: str, name: str
) -> None:
    logits, exposures = bracket(layout)
    function = {"fastmef": functional.multiscale_fuse, "eager": eager}.get(name)
    function = function or compiled(eager)
    # The first 256 rows do not depend on rows below the 512th.
    rows = 512 // 2**LEVELS
    part = exposures[..., :512, :].double() / 255
    exact = 255 * reference.multiscale_fuse(logits[..., :rows, :].double(), part, LEVELS)
    # The limit allows half a level for rounding, and the error of 16-bit pyramid levels.
    assert (function(logits, exposures)[..., :256, :] - exact[..., :256, :]).abs().max() < 0.52
    clock(lambda: function(logits, exposures), OP, f"uint8, {layout}", name)


@pytest.mark.parametrize("name", competitors("fuse"))
def test_competitor(clock: Callable[..., None], name: str) -> None:
    images = [x.permute(1, 2, 0).numpy() for x in bracket("channels last")[1][0]]
    merge = competitors("fuse")[name].load()
    fused = torch.from_numpy(merge(images))
    assert fused.shape == (HEIGHT, WIDTH, 3) and fused.isfinite().all()
    clock(lambda: merge(images), OP, "uint8, channels last", name)


@pytest.mark.parametrize("into", ["new memory", "memory in use"])
@pytest.mark.parametrize("layout", ["planar", "channels last"])
def test_copy(clock: Callable[..., None], layout: str, into: str) -> None:
    # A copy reads as much as it writes: half of the bytes of exposures and result together.
    source = torch.ones(3 * (2 + 1) * HEIGHT * WIDTH // 2, dtype=torch.uint8)
    target = torch.zeros_like(source)
    copy = source.clone if into == "new memory" else lambda: target.copy_(source)
    assert torch.equal(copy(), source)
    clock(copy, OP, f"uint8, {layout}", f"copy into {into}")


@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile"])
def test_gradient(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    photograph: Callable[..., Tensor],
    name: str,
) -> None:
    exposures = photograph(*TRAINED)
    logits = 3 * photograph(1, 2, *halved_size(TRAINED[-2:], TRAINED_LEVELS), seed=1)
    grad_output = photograph(1, *TRAINED[2:], seed=2)

    def plain(x: Tensor, images: Tensor) -> Tensor:
        return reference.multiscale_fuse(x, images, TRAINED_LEVELS)

    function = {"fastmef": functional.multiscale_fuse, "eager": plain}.get(name) or compiled(plain)

    def step(run: Callable[..., Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        x = logits.to(dtype).requires_grad_()
        fused = run(x, exposures.to(dtype))
        return fused.detach(), torch.autograd.grad(fused, x, grad_output.to(dtype))[0]

    check(step(function, torch.float32), step(plain, torch.float64), name)
    op = "multiscale_fuse, value and gradient"
    clock(lambda: step(function, torch.float32), op, "float32, 0.7 MP x 2", name)
