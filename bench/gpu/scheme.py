"""The memory accesses of fused-ssim's two passes without filters: a lower limit of its time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Number of images that are moved for a pair. The forward pass reads 2 and writes 4 maps, the
# backward pass reads 6 and writes the gradient. All outputs are filled with zeros before.
PASSES, FILLS = 13, 5


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
    """Compute a²−b² + 2 a³ + a b² of a pair; only the memory traffic matters."""
    maps = [torch.zeros_like(a) for _ in range(4)]
    grid = (triton.cdiv(a.numel(), 1024),)
    _forward_traffic[grid](a, b, *maps, a.numel(), BLOCK=1024, enable_fp_fusion=True)
    gradient = torch.zeros_like(a)
    _backward_traffic[grid](a, b, *maps, gradient, a.numel(), BLOCK=1024, enable_fp_fusion=True)
    return gradient


def check_traffic(a: Tensor, b: Tensor) -> None:
    expected = (a + b) * (a - b) + 2 * a * a * a + a * b * b
    torch.testing.assert_close(traffic(a, b), expected, rtol=1e-5, atol=1e-5)
