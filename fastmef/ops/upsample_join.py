"""upsample_join: bilinear upsampling of features by 2, joined with other features.

For inference: it has no gradient. The C++ kernel reads its inputs once and writes the result once,
channels last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import FLOATS, Operation, Support
from fastmef.ops.common.tensors import STORAGE, require
from fastmef.reference.upsample_join import upsample_join as reference

UPSAMPLE_JOIN = Operation("upsample_join", cpp=Support(FLOATS))


def upsample_join(features: Tensor, skipped: Tensor) -> Tensor:
    """See :func:`fastmef.reference.upsample_join.upsample_join`."""
    if UPSAMPLE_JOIN.backend(features, skipped) != backends.CPP:
        return reference(features, skipped)
    features, skipped = (
        x.contiguous(memory_format=torch.channels_last) for x in (features, skipped)
    )
    _, channels, rows, columns = features.shape
    height, width = rows - 2, columns - 2
    size = 2 * height + 2, 2 * width + 2
    require(
        len(features) == len(skipped) == 1
        and min(height, width) > 0
        and skipped.shape[2:] == size
        and skipped.dtype == features.dtype,
        "features (1, C, H + 2, W + 2) and skipped (1, S, 2 H + 2, 2 W + 2) must fit, "
        f"got {tuple(features.shape)} and {tuple(skipped.shape)}",
    )
    joined = channels + skipped.shape[1]
    out = features.new_empty((1, *size, joined))
    backends.CPU.upsample_join(  # type: ignore[union-attr]
        features.data_ptr(),
        skipped.data_ptr(),
        (height, width, channels, skipped.shape[1]),
        STORAGE.index(out.dtype),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out.permute(0, 3, 1, 2)
