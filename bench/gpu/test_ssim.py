"""Mean SSIM with the gradient by one image, beside fused-ssim and the least its scheme can cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, reference

triton = pytest.importorskip("triton", reason="published for Linux only")
tl = triton.language

SHAPES = [(8, 250, 250), (1, 1080, 1920), (1, 2160, 3840)]


@triton.jit
def _forward_traffic(a, b, m, d, s, c, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    x, y = tl.load(a + at, mask=inside), tl.load(b + at, mask=inside)
    tl.store(m + at, x + y, mask=inside)
    tl.store(d + at, x - y, mask=inside)
    tl.store(s + at, x * x, mask=inside)
    tl.store(c + at, x * y, mask=inside)


@triton.jit
def _backward_traffic(a, b, m, d, s, c, gradient, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    x, y = tl.load(a + at, mask=inside), tl.load(b + at, mask=inside)
    total = tl.load(m + at, mask=inside) * tl.load(d + at, mask=inside)
    total += 2 * x * tl.load(s + at, mask=inside) + y * tl.load(c + at, mask=inside)
    tl.store(gradient + at, total, mask=inside)


def traffic(a: Tensor, b: Tensor) -> Tensor:
    """The memory accesses of fused-ssim's two passes without their filters.

    Forward it fills four maps with zeros, reads two images and writes the maps; backward it fills
    the gradient, reads six images and writes one. What a pass cannot be faster than.
    """
    maps = [torch.zeros_like(a) for _ in range(4)]
    grid = (triton.cdiv(a.numel(), 1024),)
    _forward_traffic[grid](a, b, *maps, a.numel(), BLOCK=1024, enable_fp_fusion=True)
    gradient = torch.zeros_like(a)
    _backward_traffic[grid](a, b, *maps, gradient, a.numel(), BLOCK=1024, enable_fp_fusion=True)
    return gradient


def with_gradient(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a = a.detach().requires_grad_()
        value = function(a, b)
        return value.detach(), torch.autograd.grad(value, a)[0]

    return both


def implementation(name: str) -> Any:
    if name == "fused-ssim":
        fused_ssim = pytest.importorskip("fused_ssim", reason="fused-ssim is not installed")
        return lambda a, b: fused_ssim.fused_ssim(a[:, None], b[:, None], padding="valid")
    plain = lambda a, b: reference.ssim(a, b).mean()  # noqa: E731
    return {"fastmef": functional.ssim, "eager": plain}.get(name) or torch.compile(plain)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda x: "x".join(map(str, x)))
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile", "fused-ssim"])
def test_ssim(
    clock: Callable[..., None],
    scene: Callable[..., Tensor],
    shape: tuple[int, int, int],
    name: str,
) -> None:
    if name == "torch.compile" and shape != SHAPES[0]:
        pytest.skip("compiled for the patches only: every shape costs half a minute")
    a, b = scene(*shape), scene(*shape, seed=1)
    both = with_gradient(implementation(name))
    value, gradient = both(a, b)
    exact, exact_gradient = with_gradient(implementation("eager"))(a.double(), b.double())
    assert (value - exact).abs() <= 1e-5
    assert (gradient - exact_gradient).abs().max() <= 1e-3 * exact_gradient.abs().max()
    del exact, exact_gradient, value, gradient
    group = f"mean ssim with gradient, {'x'.join(map(str, shape))}"
    clock(lambda: both(a, b), group, 3 * a.numel() * 4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda x: "x".join(map(str, x)))
def test_memory_traffic_of_fused_ssim(
    clock: Callable[..., None], scene: Callable[..., Tensor], shape: tuple[int, int, int]
) -> None:
    a, b = scene(*shape), scene(*shape, seed=1)
    expected = (a + b) * (a - b) + 2 * a * a * a + a * b * b
    torch.testing.assert_close(traffic(a, b), expected, rtol=1e-5, atol=1e-5)
    group = f"mean ssim with gradient, {'x'.join(map(str, shape))}"
    clock(lambda: traffic(a, b), group, 18 * a.numel() * 4)
