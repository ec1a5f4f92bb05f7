"""weighted_ssim_loss and fusion_loss: scalar losses whose gradient is made with the value.

The C++ kernels serve tensors on the CPU when a gradient is wanted by F or the logits alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from fastmef import backends, reference
from fastmef.ops import _loss_cpp
from fastmef.ops._by_reference import GradientInForward, Recompute


def weighted_ssim_loss(
    fused: Tensor, exposures: Tensor, mask: Tensor | None, reduction: str, **options: Any
) -> Tensor:
    if _cpp_serves(fused, exposures, mask):
        by_cpp = _loss_cpp.loss_map if reduction == "none" else _loss_cpp.loss
        return by_cpp(fused, exposures, mask, options)

    def compute(fused: Tensor, exposures: Tensor, mask: Tensor | None) -> Tensor:
        return reference.weighted_ssim_loss(
            fused, exposures, mask=mask, reduction=reduction, **options
        )

    function = Recompute if reduction == "none" else GradientInForward
    return function.apply(compute, fused, exposures, mask)


def fusion_loss(logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    if _cpp_serves(logits, exposures, None):
        return _loss_cpp.loss(logits, exposures, None, options)
    return GradientInForward.apply(partial(reference.fusion_loss, **options), logits, exposures)


def _cpp_serves(source: Tensor, exposures: Tensor, mask: Tensor | None) -> bool:
    constant = not exposures.requires_grad and not (mask is not None and mask.requires_grad)
    return constant and backends.cpu_serves(source, exposures, mask)
