"""exposure_context: mean and maximum over exposures of the features of a network.

For inference: it has no gradient. The C++ kernel reads every exposure once, in any storage type.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import FLOATS, Operation, Support
from fastmef.ops.common.tensors import STORAGE, require
from fastmef.reference.exposure_context import exposure_context as reference

EXPOSURE_CONTEXT = Operation("exposure_context", cpp=Support(FLOATS))


def exposure_context(frames: Sequence[Tensor], parts: Sequence[float]) -> Tensor:
    """See :func:`fastmef.reference.exposure_context.exposure_context`."""
    if EXPOSURE_CONTEXT.backend(*frames) != backends.CPP:
        return reference(frames, parts)
    frames = [x.contiguous(memory_format=torch.channels_last) for x in frames]
    _, channels, height, width = shape = frames[0].shape
    require(
        shape[0] == 1
        and len(parts) == len(frames)
        and all(x.shape == shape and x.dtype == frames[0].dtype for x in frames),
        f"the frames must have one shape (1, C, H, W), got {[tuple(x.shape) for x in frames]}",
    )
    out = frames[0].new_empty((1, height, width, 2 * channels))
    backends.CPU.exposure_context(  # type: ignore[union-attr]
        [x.data_ptr() for x in frames],
        list(parts),
        (height * width, channels),
        STORAGE.index(out.dtype),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out.permute(0, 3, 1, 2)
