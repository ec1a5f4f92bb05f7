"""Every array of every operation is checked: one call each, whose arrays lie side by side."""

from __future__ import annotations

from types import ModuleType
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from fastmef.ops.common.tensors import ABSENT, STORAGE, Stack, color_stack

PLANES, IMAGES, FUSED = (1, 2, 1, 12, 12), (1, 2, 3, 12, 12), (1, 1, 3, 12, 12)
LINES = (1, 2, 1, 2, 2)
GRAY = (0.1, 0.2, 0.1)
LOSS = ((1 / 11,) * 11, 1, False, 1e-4, 9e-4, 1e-4, 1e-12, 1.0, (1.0,))

Arrays: TypeAlias = dict[str, Stack]
# Operation → arrays that are read, and arrays that are written.
READ: dict[str, dict[str, tuple[int, ...]]] = {
    "softmax_fuse": {"logits": PLANES, "valid": PLANES, "exposures": IMAGES},
    "softmax_fuse_backward": {
        "logits": PLANES,
        "valid": PLANES,
        "exposures": IMAGES,
        "grad_fused": FUSED,
        "grad_weights": PLANES,
    },
    "guided_guide": {"exposures": IMAGES},
    "guided_fuse": {"exposures": IMAGES, "slopes": LINES, "offsets": LINES},
    "fusion_loss": {"source": PLANES, "exposures": PLANES},
}
WRITTEN: dict[str, dict[str, tuple[int, ...]]] = {
    "softmax_fuse": {"fused": FUSED, "weights": PLANES},
    "softmax_fuse_backward": {"grad_logits": PLANES, "grad_exposures": IMAGES},
    "guided_guide": {"guide": (1, 1, 1, 2, 2)},
    "guided_fuse": {"fused": FUSED},
    "fusion_loss": {"gradient": PLANES, "workspace": (1, 1, 1, 1, 2), "value": (1, 1, 1, 1, 1)},
}
DTYPES = {"valid": torch.uint8, "workspace": torch.float64}


def call(
    module: ModuleType, operation: str, arrays: Arrays, shape: tuple[int, ...] = IMAGES
) -> None:
    x = list(arrays.values())
    place, addresses = (0, 0), [stack[0] for stack in x]
    if operation == "softmax_fuse":
        module.softmax_fuse(place, shape, 1.0, *x)
    elif operation == "softmax_fuse_backward":
        module.softmax_fuse_backward(place, shape, 1.0, *x)
    elif operation == "guided_guide":
        module.guided_guide(place, shape, 2, 2, GRAY, x[0], addresses[1])
    elif operation == "guided_fuse":
        module.guided_fuse(place, shape, 2, 2, GRAY, x[0], *addresses[1:3], x[3])
    else:
        module.LossLaunch(PLANES, True, *x[:3], *LOSS)(place, *addresses)


@pytest.fixture
def memory() -> Tensor:
    return torch.zeros(1 << 16, dtype=torch.uint8)


def neighbours(operation: str, memory: Tensor) -> Arrays:
    """Each array begins where the previous one ends."""
    arrays, begin = {}, 0
    for name, shape in {**READ[operation], **WRITTEN[operation]}.items():
        array = torch.empty(0, dtype=DTYPES.get(name, torch.float32))
        size = array.element_size() * torch.Size(shape).numel()
        arrays[name] = color_stack(memory[begin : begin + size].view(array.dtype).view(shape))
        begin += size
    return arrays


def item_size(stack: Stack) -> int:
    return STORAGE[stack[1]].itemsize


def moved(stack: Stack, address: int) -> Stack:
    return (address, *stack[1:])


@pytest.mark.parametrize("operation", READ)
def test_what_is_written_overlaps_nothing(
    emulated: ModuleType, operation: str, memory: Tensor
) -> None:
    arrays = neighbours(operation, memory)
    call(emulated, operation, arrays)
    shapes = {**READ[operation], **WRITTEN[operation]}
    names = list(shapes)
    for written in WRITTEN[operation]:
        for other in names[: names.index(written)]:
            stack = arrays[other]
            last = stack[0] + item_size(stack) * (torch.Size(shapes[other]).numel() - 1)
            last -= last % item_size(arrays[written])
            with pytest.raises(ValueError, match=f"^{operation}: {written} overlaps {other}$"):
                call(emulated, operation, {**arrays, written: moved(arrays[written], last)})


@pytest.mark.parametrize("operation", READ)
def test_addresses(emulated: ModuleType, operation: str, memory: Tensor) -> None:
    arrays = neighbours(operation, memory)
    for name, stack in arrays.items():
        if name != "valid":
            text = f"^{operation}: the address of {name} must be a multiple of {item_size(stack)}$"
            with pytest.raises(ValueError, match=text):
                call(emulated, operation, {**arrays, name: moved(stack, stack[0] + 1)})


@pytest.mark.parametrize(
    ("operation", "name", "dtype", "text"),
    [
        ("softmax_fuse", "logits", torch.uint16, "logits must be float32"),
        ("softmax_fuse", "valid", torch.uint16, "valid must be uint8"),
        ("softmax_fuse", "fused", torch.float16, "fused images and gradients must be of the type"),
        ("softmax_fuse", "weights", torch.uint16, "weights and gradients must be float32"),
        ("softmax_fuse_backward", "grad_weights", torch.uint16, "weights and gradients must be"),
        ("softmax_fuse_backward", "grad_logits", torch.uint16, "weights and gradients must be"),
        ("softmax_fuse_backward", "grad_fused", torch.float16, "fused images and gradients must"),
        ("softmax_fuse_backward", "grad_exposures", torch.float16, "fused images and gradients"),
        ("guided_fuse", "fused", torch.float16, "the fused image must be of the type"),
        ("fusion_loss", "source", torch.uint16, "tensors must be float32"),
        ("fusion_loss", "exposures", torch.uint16, "tensors must be float32"),
        ("fusion_loss", "gradient", torch.uint16, "tensors must be float32"),
    ],
)
def test_types(
    emulated: ModuleType,
    memory: Tensor,
    operation: str,
    name: str,
    dtype: torch.dtype,
    text: str,
) -> None:
    arrays = neighbours(operation, memory)
    address, _, *strides = arrays[name]
    arrays[name] = (address, STORAGE.index(dtype), *strides)
    with pytest.raises(ValueError, match=f"^{operation}: {text}"):
        call(emulated, operation, arrays)


@pytest.mark.parametrize("operation", ["softmax_fuse", "softmax_fuse_backward", "guided_fuse"])
def test_no_exposures(emulated: ModuleType, operation: str, memory: Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{operation}: takes 1 to 8 exposures, got 0"):
        call(emulated, operation, neighbours(operation, memory), (1, 0, *IMAGES[2:]))


def test_more_than_a_launch_can_number(emulated: ModuleType, memory: Tensor) -> None:
    """The inputs repeat one image, and the call is refused before any memory is accessed."""
    shape = (1 << 40, *IMAGES[1:])
    for operation, optional, text in (
        ("softmax_fuse", ("valid", "weights"), r"softmax_fuse: needs more than 2\^31 - 1 blocks"),
        ("guided_guide", (), r"guided_upsample_fuse: needs more than 2\^32 threads"),
    ):
        arrays = neighbours(operation, memory)
        for name in READ[operation]:
            address, dtype, _, *strides = arrays[name]
            arrays[name] = (address, dtype, 0, *strides)
        arrays.update(dict.fromkeys(optional, ABSENT))
        with pytest.raises(ValueError, match=f"^{text}"):
            call(emulated, operation, arrays, shape)
