"""What every launch of a CUDA C++ kernel needs to know about the GPU."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# The kernels convert to bfloat16 by an instruction that older GPUs lack.
OLDEST = (8, 0)


def place(tensor: Tensor) -> tuple[int, int]:
    """The tensor's device and the caller's stream there."""
    index = tensor.device.index
    return index, torch.cuda.current_stream(index).cuda_stream


@cache
def has_kernels(index: int) -> bool:
    """Whether the kernels run on this GPU at all."""
    return torch.cuda.get_device_capability(index) >= OLDEST
