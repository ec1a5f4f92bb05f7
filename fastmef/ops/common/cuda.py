"""The device and stream of a launch of a CUDA C++ kernel, and limits of these kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.ops.common.operation import RefusedError

# With more exposures the weights of a pixel do not fit into a thread's registers.
MOST_EXPOSURES = 8


def device_and_stream(operation: str, *tensors: Tensor | None) -> tuple[int, int]:
    """Return the index of the GPU that all tensors are on, and the caller's stream there."""
    index = common_device(operation, *tensors).index
    return index, torch._C._cuda_getCurrentRawStream(index)


def common_device(operation: str, *tensors: Tensor | None) -> torch.device:
    """Return the GPU that all tensors are on."""
    devices = {x.device for x in tensors if x is not None}
    if len(devices) != 1 or next(iter(devices)).type != "cuda":
        found = ", ".join(sorted(map(str, devices)))
        raise RefusedError(f"fastmef: {operation} needs its tensors on one GPU, got {found}")
    return devices.pop()
