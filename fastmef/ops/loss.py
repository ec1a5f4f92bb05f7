"""weighted_ssim_loss and fusion_loss: scalar losses whose gradient is made with the value."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from fastmef import reference
from fastmef.ops._by_reference import GradientInForward, Recompute


def weighted_ssim_loss(
    fused: Tensor, exposures: Tensor, mask: Tensor | None, reduction: str, **options: Any
) -> Tensor:
    def compute(fused: Tensor, exposures: Tensor, mask: Tensor | None) -> Tensor:
        return reference.weighted_ssim_loss(
            fused, exposures, mask=mask, reduction=reduction, **options
        )

    function = Recompute if reduction == "none" else GradientInForward
    return function.apply(compute, fused, exposures, mask)


def fusion_loss(logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    return GradientInForward.apply(partial(reference.fusion_loss, **options), logits, exposures)
