"""The CUDA kernels of softmax_fuse against the float64 reference: types, layouts, borders."""

from __future__ import annotations

import ctypes
from types import ModuleType

import cuda_kernels
import pytest
import torch
from cases import INTEGERS, arrange, logits_for, stack
from torch import Tensor

from fastmef import reference

pytestmark = pytest.mark.usefixtures("emulated")

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def check(
    logits: Tensor, exposures: Tensor, temperature: float = 1.0, valid: Tensor | None = None
) -> None:
    fused, weights = cuda_kernels.fuse(logits, exposures, True, temperature, valid)
    exact, exact_weights = reference.softmax_fuse(
        logits.double(), exposures.double(), temperature, valid
    )
    assert fused.dtype == exposures.dtype and weights.dtype == logits.dtype
    error = (fused.double() - exact).abs().max()
    if exposures.dtype in INTEGERS:
        # The nearest integer, except where float32 decides a tie differently.
        assert error <= 0.5 + 1e-6 * INTEGERS[exposures.dtype]
    else:
        assert error <= 4e-7 + 0.51 * torch.finfo(exposures.dtype).eps
    rounding = 0.51 * torch.finfo(logits.dtype).eps
    assert (weights.double() - exact_weights).abs().max() <= 4e-7 + rounding
    alone, none = cuda_kernels.fuse(logits, exposures, False, temperature, valid)
    assert torch.equal(alone, fused) and none.numel() == 0


# Two exposures use wide accesses, more use narrow ones; rows of 7 pixels end within a run.
@pytest.mark.parametrize("shape", [(2, 2, 3, 8, 32), (1, 5, 3, 4, 12), (2, 3, 3, 3, 7)], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "cropped", "misaligned"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_values(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    exposures = arrange(stack(*shape, dtype=dtype), layout)
    check(logits_for(exposures), exposures)


@pytest.mark.parametrize("layout", ["strided", "transposed"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_any_strides(dtype: torch.dtype, layout: str) -> None:
    exposures = arrange(stack(2, 2, 3, 5, 16, dtype=dtype), layout)
    check(arrange(logits_for(exposures), layout), exposures)
    check(logits_for(exposures), exposures)


@pytest.mark.parametrize(
    "shape",
    [(1, 2, 3, 1, 1), (1, 2, 3, 1, 5000), (1, 2, 1, 60, 1), (3, 1, 2, 2, 9), (2, 8, 3, 3, 12)],
    ids=str,
)
def test_shapes(shape: tuple[int, ...]) -> None:
    for layout in ("planar", "channels_last"):
        exposures = arrange(stack(*shape, dtype=torch.uint8), layout)
        check(logits_for(exposures), exposures)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_types_of_the_logits(dtype: torch.dtype) -> None:
    for width in (16, 12, 7):
        exposures = stack(1, 2, 3, 2, width, dtype=torch.uint8)
        check(logits_for(exposures, dtype), exposures)


def test_temperature_and_validity() -> None:
    generator = torch.Generator().manual_seed(3)
    for count, width in ((2, 16), (3, 16), (2, 7), (8, 4)):
        exposures = stack(2, count, 3, 4, width, dtype=torch.float32)
        logits = logits_for(exposures)
        valid = torch.rand(logits.shape, generator=generator) < 0.4
        assert (~valid.any(1)).any() and valid.any()
        check(logits, exposures, 0.3)
        check(logits, exposures, 2.5, valid)


@pytest.mark.parametrize("layout", ["planar", "channels_last", "misaligned"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("count", "width"), [(1, 8), (2, 8), (2, 16), (3, 8), (8, 7)])
def test_gradients(layout: str, dtype: torch.dtype, count: int, width: int) -> None:
    exposures = arrange(stack(2, count, 3, 3, width, dtype=dtype), layout)
    logits = logits_for(exposures)
    grad_fused = arrange(stack(2, 3, 3, width, dtype=dtype, seed=5), layout)
    grad_weights = stack(2, count, 3, width, dtype=dtype, seed=6)
    valid = None if width == 8 else stack(*logits.shape, dtype=torch.float32, seed=7) < 0.6
    x, images = (t.double().requires_grad_() for t in (logits, exposures))
    outputs = reference.softmax_fuse(x, images, 0.7, valid)
    exact = torch.autograd.grad(outputs, (x, images), (grad_fused.double(), grad_weights.double()))
    ours = cuda_kernels.fuse_backward(
        grad_fused, grad_weights, logits, exposures, True, True, 0.7, valid
    )
    eps = torch.finfo(dtype).eps
    for want, got in zip(exact, ours, strict=True):
        error = (got.double() - want).abs().max()
        assert error <= (1 + want.abs().max()) * (8e-7 + 0.51 * eps)
    # Each gradient is computed alone, and from each output alone.
    for_logits, for_images = ours
    arguments = (logits, exposures)
    alone, none = cuda_kernels.fuse_backward(
        grad_fused, grad_weights, *arguments, True, False, 0.7, valid
    )
    assert torch.equal(alone, for_logits) and none.numel() == 0
    none, alone = cuda_kernels.fuse_backward(grad_fused, None, *arguments, False, True, 0.7, valid)
    assert torch.equal(alone, for_images) and none.numel() == 0
    (want,) = torch.autograd.grad(
        reference.softmax_fuse(x, images, 0.7, valid)[1], x, grad_weights.double()
    )
    got, zero = cuda_kernels.fuse_backward(None, grad_weights, *arguments, True, True, 0.7, valid)
    assert not zero.any()
    assert (got.double() - want).abs().max() <= (1 + want.abs().max()) * (8e-7 + 0.51 * eps)


@pytest.mark.parametrize("layout", ["strided", "transposed", "cropped"])
def test_planes_of_any_strides_beside_dense_images(layout: str) -> None:
    exposures = stack(2, 3, 3, 5, 16, dtype=torch.float32)
    logits, grad_fused = logits_for(exposures), exposures[:, 1]
    grad_weights = stack(*logits.shape, dtype=torch.float32, seed=6)
    valid = stack(*logits.shape, dtype=torch.float32, seed=7) < 0.6
    check(arrange(logits, layout), exposures, 0.7, arrange(valid, layout))
    given = (grad_fused, grad_weights, logits)
    expected = cuda_kernels.fuse_backward(*given, exposures, True, True, 0.7, valid)
    for index in range(3):
        moved = [arrange(x, layout) if i == index else x for i, x in enumerate(given)]
        found = cuda_kernels.fuse_backward(*moved, exposures, True, True, 0.7, valid)
        for x, y in zip(expected, found, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_logits_with_gaps_between_columns(count: int) -> None:
    """Addresses and other strides allow runs; only the distance of columns does not."""
    exposures = stack(1, count, 3, 4, 16, dtype=torch.float32)
    logits = logits_for(exposures)
    check(logits.repeat_interleave(2, dim=-1)[..., ::2], exposures)


def test_exposures_left_out_have_no_part() -> None:
    for count in (2, 3, 8):
        exposures = stack(1, count, 3, 4, 8, dtype=torch.float32)
        logits, valid = logits_for(exposures), torch.ones(1, count, 4, 8, dtype=torch.bool)
        logits[:, 1], valid[:, 1] = 1e30, False
        check(logits, exposures, 1.0, valid)
        assert not cuda_kernels.fuse(logits, exposures, True, 1.0, valid)[1][:, 1].any()


def test_gradient_of_the_weights_of_integers() -> None:
    exposures = stack(1, 3, 3, 2, 8, dtype=torch.uint8)
    logits = logits_for(exposures)
    grad_weights = stack(1, 3, 2, 8, dtype=torch.float32, seed=6)
    x = logits.double().requires_grad_()
    (exact,) = torch.autograd.grad(x.softmax(1), x, grad_weights.double())
    got, _ = cuda_kernels.fuse_backward(None, grad_weights, logits, exposures, True, False)
    assert (got - exact).abs().max() <= 1e-6


def test_extreme_logits_and_nan() -> None:
    for count in (2, 3):
        exposures = stack(1, count, 3, 4, 4, dtype=torch.float32)
        logits = torch.full((1, count, 4, 4), -1e30)
        logits[:, 1] = 1e30
        fused, weights = cuda_kernels.fuse(logits, exposures, True)
        assert torch.equal(fused, exposures[:, 1])
        assert weights[0, :, 0, 0].tolist() == [0.0, 1.0, 0.0][:count]
        logits[0, 0, 2, 1] = torch.nan
        logits[0, 0, 2, 2] = torch.inf
        logits[0, 1, 2, 3] = torch.inf
        logits[0, :, 3, 3] = -torch.inf
        exposures[0, 1, 2, 3, 0] = torch.nan
        fused, weights = cuda_kernels.fuse(logits, exposures, True)
        exact, exact_weights = reference.softmax_fuse(logits, exposures)
        assert torch.equal(fused.isnan(), exact.isnan())
        assert torch.equal(weights.isnan(), exact_weights.isnan())


def test_integers_round_to_even_and_keep_the_range() -> None:
    for dtype, highest in INTEGERS.items():
        low = torch.tensor([0, 1, 2, 3, highest - 1, highest], dtype=torch.int32)
        high = torch.tensor([1, 2, 3, 4, highest, highest], dtype=torch.int32)
        exposures = torch.stack((low, high)).to(dtype).reshape(1, 2, 1, 1, 6)
        fused, _ = cuda_kernels.fuse(torch.zeros(1, 2, 1, 6), exposures, False)
        assert fused.flatten().tolist() == torch.round((low + high) / 2).tolist()


def test_layout_is_kept() -> None:
    exposures = arrange(stack(1, 2, 3, 8, 16, dtype=torch.uint8), "channels_last")
    fused, _ = cuda_kernels.fuse(logits_for(exposures), exposures, False)
    assert fused.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("layout", ["planar", "channels_last", "misaligned"])
def test_runs_of_pixels_where_memory_allows(emulated: ModuleType, layout: str) -> None:
    launched = ctypes.CDLL(emulated.__file__).launched_threads
    for dtype, pixels in ((torch.uint8, 16), (torch.float16, 8), (torch.float32, 4)):
        exposures = arrange(stack(2, 2, 3, 32, 256, dtype=dtype), layout)
        logits = logits_for(exposures)
        cuda_kernels.fuse(logits, exposures, True)
        assert launched() == 2 * 32 * 256 // (1 if layout == "misaligned" else pixels)
        if layout == "planar" and dtype.is_floating_point:
            cuda_kernels.fuse_backward(exposures[:, 0], None, logits, exposures, True, True)
            assert launched() == 2 * 32 * 256 // pixels


def test_runs_across_joined_rows_and_of_long_logits(emulated: ModuleType) -> None:
    launched = ctypes.CDLL(emulated.__file__).launched_threads
    exposures = stack(64, 2, 3, 16, 10, dtype=torch.uint8)
    # 16 logits are four accesses: it is enough that the first of them is aligned.
    logits = torch.empty(exposures[:, :, 0].numel() + 4)[4:].view(64, 2, 16, 10)
    check(logits.copy_(logits_for(exposures)), exposures)
    assert launched() == -(-64 * 160 // 16 // 256) * 256


# Strides of (B, K, C, H, W), at most one of them no multiple of 16 elements.
EVEN = (52560, 26272, 8752, 272, 1)
ODD = {"none": EVEN} | {
    name: (*EVEN[:i], EVEN[i] + 1, *EVEN[i + 1 :]) for i, name in enumerate("BKCH")
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_each_stride_counts(emulated: ModuleType, dtype: torch.dtype, odd: str) -> None:
    launched = ctypes.CDLL(emulated.__file__).launched_threads
    images = stack(2, 2, 3, 32, 256, dtype=dtype)
    exposures = torch.zeros(1 << 17, dtype=dtype).as_strided(images.shape, ODD[odd]).copy_(images)
    check(logits_for(images), exposures)
    assert launched() == 2 * 32 * 256 // (1 if odd != "none" else 16 if dtype == torch.uint8 else 4)
    if dtype.is_floating_point:
        arguments = (images[:, 0], None, logits_for(images))
        expected = cuda_kernels.fuse_backward(*arguments, images, True, True)
        found = cuda_kernels.fuse_backward(*arguments, exposures, True, True)
        assert launched() == 2 * 32 * 256 // (1 if odd != "none" else 4)
        for x, y in zip(expected, found, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_strides_of_one_element_do_not_count(emulated: ModuleType) -> None:
    """The stride of rows is 17, but there is a single row, and logits have no channels."""
    launched = ctypes.CDLL(emulated.__file__).launched_threads
    wide = stack(64, 2, 3, 16, 17, dtype=torch.float32)
    exposures, logits = wide[..., :1, :16], logits_for(wide)[..., :1, :16]
    assert exposures.stride(3) == logits.stride(2) == 17
    check(logits, exposures)
    assert launched() == 64 * 16 // 4
