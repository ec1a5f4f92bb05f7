"""The CUDA kernels of guided_upsample_fuse against the float64 reference."""

from __future__ import annotations

import ctypes
from types import ModuleType

import cuda_kernels
import pytest
import torch
from cases import INTEGERS, arrange, stack
from torch import Tensor

from fastmef import reference

pytestmark = pytest.mark.usefixtures("emulated")

DTYPES = (*INTEGERS, torch.float16, torch.bfloat16, torch.float32)


def check(exposures: Tensor, rows: int, columns: int) -> None:
    batch, count, _, height, width = exposures.shape
    generator = torch.Generator().manual_seed(1)
    slopes, offsets = torch.randn(2, batch, count, rows, columns, generator=generator)
    exact_guide = reference.guided.luma_guide(exposures, torch.float64)
    small = torch.nn.functional.adaptive_avg_pool2d(exact_guide, (rows, columns))
    guide = cuda_kernels.guided_guide(exposures, rows, columns)
    assert guide.dtype == torch.float32 and (guide - small).abs().max() <= 1e-6
    a, b = (
        torch.nn.functional.interpolate(x.double(), (height, width), mode="bilinear")
        for x in (slopes, offsets)
    )
    exact = reference.softmax_fuse(a * exact_guide + b, exposures.double())[0]
    fused = cuda_kernels.guided_fuse(slopes, offsets, exposures)
    assert fused.dtype == exposures.dtype
    error = (fused.double() - exact).abs().max()
    if exposures.dtype in INTEGERS:
        assert error <= 0.5 + 2e-6 * INTEGERS[exposures.dtype]
    else:
        assert error <= 2e-6 + 0.51 * torch.finfo(exposures.dtype).eps


@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 3, 9, 16), (1, 2, 3, 7, 13), (1, 5, 3, 6, 12)], ids=str)
def test_values(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    exposures = stack(*shape, dtype=dtype)
    if layout == "channels_last":
        exposures = exposures.movedim(2, -1).contiguous().movedim(-1, 2)
    elif layout == "strided":
        wide = exposures.new_zeros((*shape[:3], 2 * shape[3], 3 * shape[4]))
        wide[..., ::2, ::3] = exposures
        exposures = wide[..., ::2, ::3]
    check(exposures, 3, 5)


@pytest.mark.parametrize(
    ("full", "small"),
    [
        ((1, 1), (1, 1)),
        ((1, 3000), (1, 700)),
        ((20, 1), (3, 1)),
        ((8, 8), (8, 8)),
        ((16, 16), (1, 1)),
        ((11, 12), (10, 11)),
        ((40, 36), (7, 5)),
    ],
    ids=str,
)
def test_sizes(full: tuple[int, int], small: tuple[int, int]) -> None:
    for count in (1, 2, 3):
        check(stack(1, count, 3, *full, dtype=torch.float32), *small)


@pytest.mark.parametrize("layout", ["planar", "channels_last", "misaligned"])
def test_runs_of_pixels_where_memory_allows(emulated: ModuleType, layout: str) -> None:
    launched = ctypes.CDLL(emulated.__file__).launched_threads
    for dtype in DTYPES:
        exposures = arrange(stack(3, 2, 3, 8, 256, dtype=dtype), layout)
        lines = torch.zeros(3, 2, 7, 9)
        cuda_kernels.guided_fuse(lines, lines, exposures)
        # The seven rows of lines bound eight strips.
        assert launched() == 3 * 8 * 256 // (1 if layout == "misaligned" else 4)
