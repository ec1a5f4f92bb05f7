"""stored_luma: luma of exposures as they are stored, written where a network reads it.

For inference: it has no gradient. The C++ kernels read and write every type and layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import STORED, Operation, Support
from fastmef.ops.common.tensors import color_stack, gray_stack, require
from fastmef.reference.color import GRAY_COEFFICIENTS, rgb_to_gray
from fastmef.reference.multiscale import highest_value, unit_range, working_dtype

STORED_LUMA = Operation("stored_luma", cpp=Support(STORED))


def stored_luma(exposures: Tensor, out: Tensor) -> None:
    """Fill ``out`` with luma in [0, 1].

    Args:
        exposures: ``(B, K, 3, H, W)``, floating point, or integers that stand for [0, 1].
        out: ``(B, K, H, W)``, floating point. Sums are formed in float32, of float64 exposures in
            float64, and rounded once.
    """
    if STORED_LUMA.backend(exposures, out) != backends.CPP:
        out.copy_(rgb_to_gray(unit_range(exposures, working_dtype(exposures))))
        return
    require(
        exposures.shape[2:3] == (3,)
        and out.is_floating_point()
        and out.shape == exposures.shape[:2] + exposures.shape[3:],
        f"luma {tuple(out.shape)} does not fit exposures {tuple(exposures.shape)}",
    )
    backends.CPU.stored_luma(  # type: ignore[union-attr]
        exposures.dtype == torch.float64,
        tuple(exposures.shape),
        color_stack(exposures),
        gray_stack(out),
        tuple(x / highest_value(exposures.dtype) for x in GRAY_COEFFICIENTS),
        torch.get_num_threads(),
    )
