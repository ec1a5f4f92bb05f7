"""Numbers further than 2**31 from the first one are found: no offset is computed in 32 bits."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmef import backends, functional, ops
from fastmef.kernels._tile import locate

Far = Callable[[Tensor, int], Tensor]


@triton.jit
def _place(out, program, width, height, BLOCK: tl.constexpr):
    plane, row, first = locate(tl.program_id(0) + program, width, height, BLOCK)
    tl.store(out, plane)
    tl.store(out + 1, row)
    tl.store(out + 2, first)
    tl.store(out + 3, (plane * height + row) * width + first)


@pytest.mark.parametrize(
    "program, width, height",
    [
        (0, 1, 1),
        (2**22 - 1, 2**31 - 1, 1),
        (2**23 + 7, 2**32 + 5, 3),
        (2**31 - 2, 1000, 2**20),
        (2**30, 513, 40000),
    ],
)
def test_locate(program: int, width: int, height: int, device: torch.device) -> None:
    out = torch.zeros(4, dtype=torch.int64, device=device)
    _place[(1,)](out, program, width, height, BLOCK=512)
    row, block = divmod(program, -(-width // 512))
    plane, row = divmod(row, height)
    first = 512 * block
    assert out.tolist() == [plane, row, first, (plane * height + row) * width + first]


@pytest.mark.parametrize("axis", range(5))
def test_softmax_fuse(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.randint(0, 256, (3, 3, 3, 3, 3), dtype=torch.uint8).to(device)
    logits = torch.randn(3, 3, 3, 3, device=device)
    near = ops.fusion.softmax_fuse(logits, exposures)
    apart = ops.fusion.softmax_fuse(logits, far(exposures, axis))
    assert all(torch.equal(x, y) for x, y in zip(near, apart, strict=True))


@pytest.mark.parametrize("axis", range(4))
def test_softmax_fuse_logits(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.rand(3, 3, 1, 3, 3, device=device).half()
    logits = torch.randn(3, 3, 3, 3, device=device).half()
    results = []
    for x in (logits, far(logits, axis)):
        x = x.detach().requires_grad_()
        fused, weights = ops.fusion.softmax_fuse(x, exposures)
        (by_logits,) = torch.autograd.grad((fused * fused).sum() + (weights**3).sum(), x)
        results.append((fused, weights, by_logits))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def _lossy(function: Callable[..., Tensor], first: bool) -> Callable[[Tensor], Tensor]:
    """One image of (3, 3, 3), or the exposures, is taken from ``x``; the other ones lie near."""
    if first:
        return lambda x: function(x, torch.linspace(0, 1, 81, device=x.device).reshape(3, 3, 3, 3))
    return lambda x: function(torch.linspace(0, 1, 27, device=x.device).reshape(3, 3, 3), x)


FUNCTIONS: dict[str, tuple[str, Callable[[Tensor], Tensor], int]] = {
    "local_variance": ("local_variance", functional.local_variance, 3),
    "sobel_gradient": ("sobel_gradient", functional.sobel_gradient, 3),
    "gamma_weights": ("gamma_weights", functional.gamma_weights, 4),
    "ssim": ("ssim", lambda x: functional.ssim(x, x.flip(0).contiguous()), 3),
    "ssim_map": ("ssim", lambda x: functional.ssim(x, x.flip(0), reduction="none"), 3),
    "loss by image": ("weighted_ssim_loss", _lossy(functional.weighted_ssim_loss, True), 3),
    "loss by exposures": ("weighted_ssim_loss", _lossy(functional.weighted_ssim_loss, False), 4),
    "fusion_loss by logits": ("fusion_loss", _lossy(functional.fusion_loss, True), 4),
}


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_windowed(name: str, axis: int, far: Far, device: torch.device) -> None:
    operation, _, axes = FUNCTIONS[name]
    if operation not in backends.SERVED[backends.TRITON]:
        pytest.skip("the reference serves this operation")
    if axis >= axes:
        pytest.skip(f"{axes} axes only")
    for near, apart in zip(
        _evaluate(name, device), _evaluate(name, device, far, axis), strict=True
    ):
        torch.testing.assert_close(near, apart, rtol=1e-6, atol=1e-6)


@functools.cache
def _evaluate(
    name: str, device: torch.device, far: Far | None = None, axis: int = 0
) -> list[Tensor]:
    """Value and gradient."""
    _, function, axes = FUNCTIONS[name]
    x = torch.linspace(0, 1, 3**axes, device=device).square().reshape((3,) * axes)
    x = (x if far is None else far(x, axis)).detach().requires_grad_("exposures" not in name)
    value = function(x)
    if not x.requires_grad:
        return [value]
    return [value.detach(), torch.autograd.grad((value * value).sum(), x)[0]]
