"""Invalid calls are refused before a kernel is launched, and every CUDA error is reported."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cuda_kernels
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fastmef.ops.common import cuda
from fastmef.ops.common.tensors import color_stack, gray_stack

OPTIONS = ("variance", False, 11, 1.5, 0.01, 0.03, 1e-4, 1e-12)


def images(count: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.zeros(1, count, 12, 12), torch.zeros((1, count, 3, 12, 12), dtype=dtype)


def fuse(count: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    return cuda_kernels.fuse(*images(count, dtype), True)


def fuse_backward(count: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    logits, exposures = images(count, dtype)
    return cuda_kernels.fuse_backward(exposures[:, 0], None, logits, exposures, True, True)


def guided_guide(count: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    return cuda_kernels.guided_guide(images(count, dtype)[1], 2, 3)


def guided_fuse(count: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    lines = torch.zeros(1, count, 2, 3)
    return cuda_kernels.guided_fuse(lines, lines, images(count, dtype)[1])


def loss(count: int = 2, dtype: torch.dtype = torch.float32) -> Any:
    logits = images(count)[0].to(dtype)
    return cuda_kernels.loss(logits, logits.clone(), None, *OPTIONS, (1.0,), True)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "softmax_fuse": fuse,
    "softmax_fuse_backward": fuse_backward,
    "guided_guide": guided_guide,
    "guided_fuse": guided_fuse,
    "fusion_loss": loss,
}


def test_tensors_on_one_gpu() -> None:
    with FakeTensorMode():
        first, second = (torch.empty(2, device=f"cuda:{i}") for i in (0, 1))
        on_cpu = torch.empty(2)
        assert cuda.common_device("ssim", first, None, first).index == 0
        for tensors, found in (
            ((first, second), "cuda:0, cuda:1"),
            ((first, on_cpu), "cpu, cuda:0"),
            ((on_cpu, on_cpu), "cpu"),
        ):
            with pytest.raises(
                RuntimeError, match=f"ssim needs its tensors on one GPU, got {found}"
            ):
                cuda.device_and_stream("ssim", *tensors)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_types(operation: str) -> None:
    with pytest.raises(ValueError, match=f"^{operation}: .* (must be|be of at most)"):
        OPERATIONS[operation](dtype=torch.float64)
    with pytest.raises(ValueError, match="^softmax_fuse: logits must be float32"):
        cuda_kernels.fuse(images()[0].double(), images()[1], True)
    with pytest.raises(ValueError, match="^softmax_fuse_backward: fused images and gradients must"):
        cuda_kernels.fuse_backward(images()[1][:, 0].half(), None, *images(), True, True)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("operation", [x for x in OPERATIONS if x != "guided_guide"])
def test_numbers_of_exposures(operation: str) -> None:
    allowed = "2 or 3" if operation == "fusion_loss" else "1 to 8"
    with pytest.raises(ValueError, match=f"^{operation}: takes {allowed} exposures, got 9"):
        OPERATIONS[operation](9)


@pytest.mark.usefixtures("emulated")
def test_sizes() -> None:
    for size in ((12, 10), (10, 12)):
        text = "^fusion_loss: .*11 x 11 pixels at every scale, got {} x {} at 1".format(*size)
        with pytest.raises(ValueError, match=text):
            cuda_kernels.loss(*torch.zeros(2, 1, 2, *size), None, *OPTIONS, (1.0,), True)
    for size in ((1, 46341), (46341, 1)):
        text = "^guided_guide: takes sides of at most 46340 pixels, got {} x {}$".format(*size)
        with pytest.raises(ValueError, match=text):
            cuda_kernels.guided_guide(torch.zeros(1, 1, 3, *size), 1, 1)


@pytest.mark.usefixtures("emulated")
def test_shapes_that_do_not_fit() -> None:
    logits, exposures = images()
    for call in (
        lambda: cuda_kernels.fuse(logits[..., 1:], exposures, True),
        lambda: cuda_kernels.fuse(logits[:0], exposures[:0], True),
        lambda: cuda_kernels.fuse(logits, exposures, True, 1.0, logits[..., 1:] > 0),
        lambda: cuda_kernels.fuse_backward(
            exposures[:, 0, :1], None, logits, exposures, True, True
        ),
        lambda: cuda_kernels.guided_guide(exposures[:, :, :2], 2, 2),
        lambda: cuda_kernels.guided_fuse(logits, logits[..., 1:], exposures),
        lambda: cuda_kernels.loss(logits[..., 1:], logits, None, *OPTIONS, (1.0,), True),
    ):
        with pytest.raises(RuntimeError, match="^fastmef: "):
            call()


def write(module: ModuleType, logits: Tensor, exposures: Tensor, fused: Tensor) -> None:
    """Write into memory that the caller provides."""
    stacks = (color_stack(x) for x in (logits.unsqueeze(2), None, exposures, fused.unsqueeze(1)))
    shape = tuple(exposures.shape)
    module.softmax_fuse((0, 0), shape, 1.0, *stacks, color_stack(None))


def test_overlapping_and_misaligned(emulated: ModuleType) -> None:
    logits, exposures = images()
    both = torch.zeros(1, 3, 3, 12, 12)
    write(emulated, logits, both[:, :2], both[:, 2])  # neighbours do not overlap
    write(emulated, logits, both[:, 1:], both[:, 0])
    with pytest.raises(ValueError, match="^softmax_fuse: fused overlaps exposures"):
        write(emulated, logits, exposures, exposures[:, 1])
    with pytest.raises(ValueError, match="^softmax_fuse: fused overlaps itself"):
        write(emulated, logits, exposures, torch.zeros(1, 1, 12, 12).expand(1, 3, 12, 12))
    # Rows of 12 pixels begin 3 or 11 pixels apart, so they overlap although no stride is 0.
    for row in (3, 11):
        fused = torch.zeros(999).as_strided((1, 3, 12, 12), (0, 300, row, 1))
        with pytest.raises(ValueError, match="^softmax_fuse: fused overlaps itself"):
            write(emulated, logits, exposures, fused)
    # Inputs may overlap: one logit for all pixels, one exposure for all.
    write(emulated, logits[..., :1, :1].expand(logits.shape), exposures, torch.zeros(1, 3, 12, 12))
    fused = torch.zeros(1, 3, 12, 12)
    address, *rest = color_stack(exposures)
    with pytest.raises(
        ValueError, match="^softmax_fuse: the address of exposures must be a mult.* 4"
    ):
        emulated.softmax_fuse(
            (0, 0),
            tuple(exposures.shape),
            1.0,
            color_stack(logits.unsqueeze(2)),
            color_stack(None),
            (address + 2, *rest),
            color_stack(fused.unsqueeze(1)),
            color_stack(None),
        )


def test_the_loss_writes_nowhere_else(emulated: ModuleType) -> None:
    logits = images()[0]
    size = emulated.loss_workspace(1, 2, 12, 12, 1)
    workspace, value = torch.zeros(size + 1, dtype=torch.float64), torch.zeros(())

    def call(gradient: Tensor, workspace_at: int, value_at: int, *scales: float) -> None:
        stacks = [gray_stack(x) for x in (logits, logits, gradient)]
        addresses = (stack[0] for stack in stacks)
        taps = (1 / 11,) * 11
        rest = (taps, 1, False, 1e-4, 9e-4, 1e-4, 1e-12, 1.0, scales or (1.0,))
        shape = (1, 2, 1, 12, 12)
        prepared = emulated.LossLaunch(shape, True, *stacks, *rest)
        prepared((0, 0), *addresses, workspace_at, value_at)

    call(torch.zeros_like(logits), workspace.data_ptr(), value.data_ptr())
    with pytest.raises(ValueError, match="^fusion_loss: gradient overlaps source"):
        call(logits, workspace.data_ptr(), value.data_ptr())
    with pytest.raises(ValueError, match="^fusion_loss: value overlaps workspace"):
        call(torch.zeros_like(logits), workspace.data_ptr(), workspace.data_ptr())
    with pytest.raises(ValueError, match="^fusion_loss: the address of workspace must be .* 8"):
        call(torch.zeros_like(logits), workspace.data_ptr() + 4, value.data_ptr())
    for scales, text in (
        ((1.0,) * 7, "takes 1 to 6 scales, got 7"),
        ((1.0, 1.0), "takes images of at least 11 x 11 pixels .*, got 12 x 12 at 2 scales"),
        ((0.0,), "the first scale must be positive"),
    ):
        with pytest.raises(ValueError, match=f"^fusion_loss: {text}$"):
            call(torch.zeros_like(logits), workspace.data_ptr(), value.data_ptr(), *scales)


@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_status_is_raised(
    emulated: ModuleType, monkeypatch: pytest.MonkeyPatch, operation: str, device: int
) -> None:
    library = ctypes.CDLL(emulated.__file__)
    monkeypatch.setattr(cuda, "device_and_stream", lambda operation, *tensors: (device, 0))
    library.refuse_call(1000)
    OPERATIONS[operation]()
    calls = 1000 - library.refuse_call(-1)
    # The calls query the device, launch, and read the error; another device is set and restored.
    launches = 2 if operation == "fusion_loss" else 1
    # The loss asks for more shared memory than every kernel may have.
    assert calls == (3 if device == 0 else 5) * launches + (operation == "fusion_loss")
    for number in range(calls):
        library.refuse_call(number)
        with pytest.raises(RuntimeError, match=f"^{operation}: invalid argument"):
            OPERATIONS[operation]()
        library.refuse_call(-1)
        assert library.current_device() == 0


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, emulated: ModuleType) -> None:
    monkeypatch.setattr(cuda, "device_and_stream", lambda operation, *tensors: (5, 0))
    for operation, call in OPERATIONS.items():
        with pytest.raises(RuntimeError, match=f"^{operation}: invalid argument"):
            call()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_stream(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    library = ctypes.CDLL(emulated.__file__)
    library.last_stream.restype = ctypes.c_size_t
    for stream in (0, 0x7F0123456789):
        monkeypatch.setattr(cuda, "device_and_stream", lambda operation, *tensors, s=stream: (0, s))
        OPERATIONS[operation]()
        assert library.last_stream() == stream
