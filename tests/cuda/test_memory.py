"""The CUDA kernels access nothing outside their arrays, and write nothing of another block."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import cuda_kernels
import pytest
import torch
from cases import LOSS, loss_inputs, stack
from torch import Tensor

from fastmef.ops import guided
from fastmef.ops.common.tensors import color_stack, fused_stack, gray_stack

LIBC = ctypes.CDLL(None, use_errno=True)
FUSION, SMALL = (2, 3, 3, 9, 21), (2, 2)


def fuse(*x: Tensor) -> list[Tensor]:
    return list(cuda_kernels.fuse(*x, True))


def fuse_backward(*x: Tensor) -> list[Tensor]:
    logits, exposures = x
    fused, grad_weights = exposures[:, 0].clone(), logits.clone()
    return list(cuda_kernels.fuse_backward(fused, grad_weights, logits, exposures, True, True))


def guide_and_fuse(*x: Tensor) -> list[Tensor]:
    logits, exposures = x
    lines = logits[..., : SMALL[0], : SMALL[1]].contiguous()
    return [
        cuda_kernels.guided_guide(exposures, *SMALL),
        cuda_kernels.guided_fuse(lines, lines, exposures),
    ]


def loss(*x: Tensor, scales: tuple[float, ...] = (1.0,)) -> list[Tensor]:
    return list(cuda_kernels.loss(*x, None, *LOSS.values(), scales, True))


loss_of_scales = partial(loss, scales=(1.0, 0.5, 0.25))


def of_fusion() -> tuple[Tensor, ...]:
    exposures = stack(*FUSION, dtype=torch.float32)
    return stack(2, 3, 9, 21, dtype=torch.float32, seed=1), exposures


def of_loss(form: str) -> tuple[Tensor, ...]:
    # The image has three strips of rows and two chunks of columns.
    return tuple(x.float() for x in loss_inputs(form, 1, 2, 75, 530))


CASES: dict[str, tuple[Callable[..., list[Tensor]], Callable[[], tuple[Tensor, ...]]]] = {
    "softmax_fuse": (fuse, of_fusion),
    "softmax_fuse_backward": (fuse_backward, of_fusion),
    "guided": (guide_and_fuse, of_fusion),
    "loss of F": (loss, lambda: of_loss("fused")),
    "loss of logits": (loss, lambda: of_loss("logits")),
    "loss of scales": (loss_of_scales, lambda: of_loss("logits")),
}
IN_ORDER = ("loss of scales",)  # blocks wait for those of lower numbers, which a GPU starts first


@pytest.mark.parametrize("name", CASES)
def test_any_order_of_blocks_and_threads(emulated: ModuleType, name: str) -> None:
    run, inputs = CASES[name]
    library = ctypes.CDLL(emulated.__file__)
    results = []
    try:
        for backwards in (0, 1):
            library.run_backwards(backwards, backwards and name not in IN_ORDER)
            results.append(run(*inputs()))
    finally:
        library.run_backwards(1, 0)
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


@pytest.fixture
def beside_nothing() -> Iterator[Callable[[Tensor, bool], Tensor]]:
    """Return a function that copies a tensor to the end (or start) of accessible memory."""
    kept: list[mmap.mmap] = []

    def place(x: Tensor, at_the_end: bool) -> Tensor:
        size = x.numel() * x.element_size()
        pages = -(-size // mmap.PAGESIZE)
        memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
        kept.append(memory)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            where = ctypes.c_void_p(begin + page * mmap.PAGESIZE)
            assert LIBC.mprotect(where, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        first = (pages + 1) * mmap.PAGESIZE - size if at_the_end else mmap.PAGESIZE
        whole = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=first)
        return whole.view(x.shape).copy_(x)

    yield place
    kept.clear()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("at_the_end", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_nothing_beyond_the_inputs_is_read(
    name: str, at_the_end: bool, beside_nothing: Callable[[Tensor, bool], Tensor]
) -> None:
    run, inputs = CASES[name]
    plain = inputs()
    expected = run(*plain)
    found = run(*(beside_nothing(x, at_the_end) for x in plain))
    for x, y in zip(expected, found, strict=True):
        assert torch.equal(x, y)


def shifted(*shape: int) -> Tensor:
    """Return memory whose alignment or strides do not allow runs of pixels."""
    flat = torch.zeros(torch.Size(shape).numel() + 1)
    return flat[1:].view(shape)


def test_results_in_memory_of_the_callers(emulated: ModuleType) -> None:
    """The operations allocate results that allow runs of pixels; the binding takes any."""
    exposures, logits = stack(1, 2, 3, 8, 16, dtype=torch.float32), torch.zeros(1, 2, 8, 16)
    fused, weights = cuda_kernels.fuse(logits, exposures, True)
    grad_logits, grad_exposures = cuda_kernels.fuse_backward(
        fused, None, logits, exposures, True, True
    )
    lines = torch.ones(1, 2, 4, 4)
    guided_image = cuda_kernels.guided_fuse(lines, lines, exposures)
    place, shape, absent = (0, 0), tuple(exposures.shape), gray_stack(None)
    read: tuple[Any, ...] = (gray_stack(logits), absent, color_stack(exposures))

    def write(new: Callable[..., Tensor], other: Callable[..., Tensor]) -> None:
        a, b = new(*fused.shape), other(*weights.shape)
        emulated.softmax_fuse(place, shape, 1.0, *read, fused_stack(a), gray_stack(b))
        assert torch.equal(a, fused) and torch.equal(b, weights)
        a, b = new(*exposures.shape), other(*logits.shape)
        grad_output = fused_stack(fused), absent
        emulated.softmax_fuse_backward(
            place, shape, 1.0, *read, *grad_output, gray_stack(b), color_stack(a)
        )
        torch.testing.assert_close(a, grad_exposures, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(b, grad_logits, rtol=1e-6, atol=1e-6)

    write(shifted, torch.zeros)
    write(torch.zeros, shifted)
    out, gray = shifted(*guided_image.shape), guided._gray(exposures)
    addresses = lines.data_ptr(), lines.data_ptr()
    emulated.guided_fuse(
        place, shape, 4, 4, gray, color_stack(exposures), *addresses, fused_stack(out)
    )
    torch.testing.assert_close(out, guided_image, rtol=1e-6, atol=1e-6)
