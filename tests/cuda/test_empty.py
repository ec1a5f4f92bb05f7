"""Images of no pixels are refused alike by the binding, the operations and the public functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import cuda_kernels
import pytest
import torch
from torch import Tensor

from fastmef import functional
from fastmef.errors import InputError
from fastmef.ops import fusion, guided
from fastmef.ops import fusion_kernels as kernels
from fastmef.ops.common.tensors import color_stack

# (B, K, C, H, W), one after the other without elements.
EMPTY = [
    (0, 2, 3, 12, 12),
    (1, 0, 3, 12, 12),
    (1, 2, 0, 12, 12),
    (1, 2, 3, 0, 12),
    (1, 2, 3, 12, 0),
]
SMALL = [(0, 1), (1, 0), (13, 1), (1, 13)]
LOSS = ("variance", False, 11, 1.5, 0.01, 0.03, 1e-4, 1e-12)
TAPS = ((1 / 11,) * 11, 1, False, 1e-4, 9e-4, 1e-4, 1e-12, 1.0, (1.0,))
GRAY = (0.1, 0.2, 0.1)


def planes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], *shape[3:])


def bound(module: ModuleType, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """The binding gets enough memory, so it must check the sizes."""
    memory = torch.zeros(4, 1 << 12)
    a, b, c, d = (color_stack(x.view(1, 1, 1, 1, -1)) for x in memory)
    addresses = [x.data_ptr() for x in memory]
    absent = color_stack(None)
    place = (0, 0)
    return {
        "softmax_fuse": lambda: module.softmax_fuse(place, shape, 1.0, a, absent, b, c, d),
        "softmax_fuse_backward": lambda: module.softmax_fuse_backward(
            place, shape, 1.0, a, absent, b, a, absent, c, d
        ),
        "guided_guide": lambda: module.guided_guide(place, shape, 1, 1, GRAY, a, addresses[1]),
        "guided_fuse": lambda: module.guided_fuse(place, shape, 1, 1, GRAY, a, *addresses[1:3], d),
        "fusion_loss": lambda: module.LossLaunch(shape, False, a, b, c, *TAPS)(
            place, *addresses, addresses[3] + 64
        ),
    }


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_binding(emulated: ModuleType, shape: tuple[int, ...]) -> None:
    for name, call in bound(emulated, shape).items():
        if shape[2] == 0 and name in ("guided_guide", "guided_fuse", "fusion_loss"):
            continue  # three channels, or one, whatever the shape says
        with pytest.raises(ValueError, match=rf"^{name}: .*(one pixel|exposures), got .*\b0\b"):
            call()
    if shape[1] and shape[2]:
        with pytest.raises(ValueError, match="^fusion_loss: .* one pixel, got"):
            emulated.loss_workspace(*shape[:2], *shape[3:], 1)


# No kernel is reached, so Triton does not need to be installed.
def operations(shape: tuple[int, ...]) -> list[Callable[[], Any]]:
    logits, exposures = torch.zeros(planes(shape)), torch.zeros(shape)
    fused = torch.zeros((shape[0], *shape[2:]))
    lines = torch.zeros((*shape[:2], 1, 1))
    calls: list[Callable[[], Any]] = [
        lambda: cuda_kernels.guided_guide(exposures, 1, 1),
        lambda: guided._guide_triton(exposures, 1, 1),
        lambda: cuda_kernels.guided_fuse(lines, lines, exposures),
        lambda: guided._fuse_triton(lines, lines, exposures),
    ]
    for run in (kernels.cpp_forward, kernels.cuda_forward, kernels.triton_forward):
        calls.append(partial(fusion.forward_on, run, logits, exposures, True))
    for run in (kernels.cpp_backward, kernels.cuda_backward, kernels.triton_backward):
        given = (fused, None, logits, exposures, True, True)
        calls.append(partial(fusion.backward_on, run, *given))
    if shape[2]:
        calls.append(lambda: cuda_kernels.loss(logits, logits.clone(), None, *LOSS, (1.0,), True))
    return calls


def test_small_sizes_of_the_binding(emulated: ModuleType) -> None:
    memory = torch.zeros(4, 1 << 12)
    exposures, fused = (color_stack(x[:432].view(1, 1, 3, 12, 12)) for x in memory[:2])
    lines = [x.data_ptr() for x in memory[2:]]
    for size in SMALL:
        text = f"the small size must be from 1 x 1 to 12 x 12, got {size[0]} x {size[1]}$"
        arguments = (0, 0), (1, 1, 3, 12, 12), *size, GRAY, exposures
        with pytest.raises(ValueError, match=f"^guided_guide: {text}"):
            emulated.guided_guide(*arguments, lines[0])
        with pytest.raises(ValueError, match=f"^guided_fuse: {text}"):
            emulated.guided_fuse(*arguments, *lines, fused)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_operations(shape: tuple[int, ...]) -> None:
    for call in operations(shape):
        with pytest.raises(RuntimeError, match="^fastmef: "):
            call()


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_small_sizes(size: tuple[int, int]) -> None:
    exposures = torch.zeros(1, 2, 3, 12, 12)
    lines = torch.zeros(1, 2, *size)
    for call in (
        lambda: cuda_kernels.guided_guide(exposures, *size),
        lambda: guided._guide_triton(exposures, *size),
        lambda: cuda_kernels.guided_fuse(lines, lines, exposures),
        lambda: guided._fuse_triton(lines, lines, exposures),
    ):
        with pytest.raises(RuntimeError, match="^fastmef: exposures .* cannot have a guide of"):
            call()


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_public_functions(shape: tuple[int, ...]) -> None:
    logits, exposures = torch.zeros(planes(shape)), torch.zeros(shape)
    small = torch.zeros(*shape[:2], 3, 3)

    def plane(x: Tensor) -> Tensor:
        return x.sum(dim=1)

    calls: list[Callable[[], Any]] = [
        lambda: functional.softmax_fuse(logits, exposures),
        lambda: functional.guided_upsample_fuse(small, exposures),
    ]
    if shape[2]:  # the losses know no channels
        calls.append(lambda: functional.fusion_loss(logits, logits))
        calls.append(lambda: functional.weighted_ssim_loss(plane(logits), logits))
    for call in calls:
        with pytest.raises(InputError):
            call()
