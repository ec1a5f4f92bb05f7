"""Scale a gradient in place by grad_output / divisor; if that is 1, only the factor is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from ..common.windows import WARPS

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1024


@compiled_for(Layout(multiples=("gradient",)), Layout())
def scale_kernel(gradient, grad_output, divisor, size, BLOCK: tl.constexpr):
    """Scale BLOCK values."""
    factor = tl.load(grad_output) / divisor
    if factor != 1.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        values = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32) * factor
        tl.store(gradient + at, values.to(gradient.dtype.element_ty), mask=inside)


def scale_gradient(gradient: Tensor, grad_output: Tensor, divisor: float) -> None:
    """Scale a contiguous tensor in place."""
    size = gradient.numel()
    launch(
        scale_kernel,
        cdiv(size, BLOCK),
        gradient.device,
        gradient,
        grad_output,
        divisor,
        size,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
