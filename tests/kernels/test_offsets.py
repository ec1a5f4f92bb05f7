"""Kernels reach elements with offsets of more than 2**31: no offset is computed in 32 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmef import backends, functional, ops
from fastmef.kernels.common.maps import map_area, map_offset
from fastmef.kernels.common.tiles import locate
from fastmef.kernels.common.windows import plane_constant
from fastmef.ops.common.operation import OPERATIONS

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


@triton.jit
def _in_maps(out, plane, y, x, height, width, MARGIN_Y: tl.constexpr, MARGIN_X: tl.constexpr):
    at = map_offset(plane.to(tl.int64), y, x, height, width, MARGIN_Y, MARGIN_X)
    tl.store(out, at)
    tl.store(out + 1, map_area(plane, height, width, MARGIN_Y, MARGIN_X))


@pytest.mark.parametrize(
    "plane, y, x, height, width",
    [(0, -10, -5, 1, 1), (3, 29999, 40004, 30000, 40000), (7, -10, 2**28, 9, 2**28)],
)
def test_offsets_in_maps(
    plane: int, y: int, x: int, height: int, width: int, device: torch.device
) -> None:
    out = torch.zeros(2, dtype=torch.int64, device=device)
    _in_maps[(1,)](out, plane, y, x, height, width, MARGIN_Y=10, MARGIN_X=5)
    rows, columns = height + 20, width + 10
    assert out.tolist() == [(plane * rows + y + 10) * columns + x + 5, plane * rows * columns]


@triton.jit
def _constant(out, image, height, width, row_stride, column_stride):
    tl.store(out, plane_constant(image, height, width, row_stride, column_stride))


@pytest.mark.parametrize("wide", [False, True])
def test_plane_constant(wide: bool, tmp_path: Path, device: torch.device) -> None:
    """The sampled constant that replaces a plane's mean lies inside the plane for any shape."""
    length, samples = (2**27, 16) if wide else (2**28, 8)
    if device.type == "cpu":
        # As many again on either side, so that addresses which have wrapped find zeros.
        memory = torch.from_file(str(tmp_path / "sparse"), True, 3 * length, dtype=torch.uint8)
    else:
        memory = torch.zeros(3 * length, dtype=torch.uint8, device=device)
    image = memory[length : 2 * length]
    image[length // (2 * samples) :: length // samples] = 16
    out = torch.zeros(1, device=device)
    size, strides = ((1, length), (length, 1)) if wide else ((length, 1), (1, 1))
    _constant[(1,)](out, image, *size, *strides)
    assert out.item() == 16


@pytest.mark.parametrize("axis", range(5))
def test_guided_upsample_fuse(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.randint(0, 256, (3, 3, 3, 3, 3), dtype=torch.uint8).to(device)
    logits = torch.randn(3, 3, 2, 2, device=device)
    near = functional.guided_upsample_fuse(logits, exposures)
    assert torch.equal(near, functional.guided_upsample_fuse(logits, far(exposures, axis)))


@pytest.mark.parametrize("axis", range(5))
def test_softmax_fuse(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.randint(0, 256, (3, 3, 3, 3, 3), dtype=torch.uint8).to(device)
    logits = torch.randn(3, 3, 3, 3, device=device)
    near = ops.fusion.softmax_fuse(logits, exposures)
    apart = ops.fusion.softmax_fuse(logits, far(exposures, axis))
    assert all(torch.equal(x, y) for x, y in zip(near, apart, strict=True))


@pytest.mark.parametrize("axis", range(5))
def test_multiscale_fuse(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.randint(0, 256, (3, 3, 3, 3, 3), dtype=torch.uint8).to(device)
    logits = torch.randn(3, 3, 2, 2, device=device)
    near = functional.multiscale_fuse(logits, exposures, radius=1)
    assert torch.equal(near, functional.multiscale_fuse(logits, far(exposures, axis), radius=1))


@pytest.mark.parametrize("axis", range(4))
def test_softmax_fuse_logits(axis: int, far: Far, device: torch.device) -> None:
    exposures = torch.rand(3, 3, 1, 3, 3, device=device).half()
    logits = torch.randn(3, 3, 3, 3, device=device).half()
    results = []
    for x in (logits, far(logits, axis)):
        x = x.detach().requires_grad_()
        fused, weights = ops.fusion.softmax_fuse(x, exposures)
        (grad_logits,) = torch.autograd.grad((fused * fused).sum() + (weights**3).sum(), x)
        results.append((fused, weights, grad_logits))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def _ramp(*shape: int, device: torch.device) -> Tensor:
    return torch.linspace(0, 1, math.prod(shape), device=device).square().reshape(shape)


def _by_image(x: Tensor) -> Tensor:
    return functional.weighted_ssim_loss(x, _ramp(len(x), 2, 3, 3, device=x.device))


def _by_exposures(x: Tensor) -> Tensor:
    return functional.weighted_ssim_loss(_ramp(len(x), 3, 3, device=x.device), x)


FUNCTIONS: dict[str, tuple[str, Callable[[Tensor], Tensor], int]] = {
    "local_variance": ("local_variance", functional.local_variance, 3),
    "sobel_gradient": ("sobel_gradient", functional.sobel_gradient, 3),
    "gamma_weights": ("gamma_weights", functional.gamma_weights, 4),
    "ssim": ("ssim", lambda x: functional.ssim(x, x.flip(0).contiguous()), 3),
    "ssim_map": ("ssim", lambda x: functional.ssim(x, x.flip(0), reduction="none"), 3),
    "loss by image": ("weighted_ssim_loss", _by_image, 3),
    "loss by exposures": ("weighted_ssim_loss", _by_exposures, 4),
}


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_windowed(name: str, axis: int, far: Far, device: torch.device) -> None:
    operation, function, axes = FUNCTIONS[name]
    if backends.TRITON not in OPERATIONS[operation].support:
        pytest.skip("the reference runs this operation")
    if axis >= axes:
        pytest.skip(f"{axes} axes only")
    shape = [1] * (axes - 2) + [3, 3]
    shape[axis] = 3
    images = _ramp(*shape, device=device)
    results = []
    for x in (images, far(images, axis)):
        x = x.detach().requires_grad_("exposures" not in name)
        value = function(x)
        results.append([value.detach()])
        if x.requires_grad:
            results[-1].append(torch.autograd.grad((value * value).sum(), x)[0])
    for near, apart in zip(*results, strict=True):
        torch.testing.assert_close(near, apart, rtol=1e-6, atol=1e-6)
