"""MEF-SSIM as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmef.errors import MissingExtraError
from fastmef.metrics.mef_ssim import mef_ssim, score_name

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingExtraError(
        "MEFSSIMMetric needs torchmetrics, which is not installed: pip install torchmetrics"
    ) from error


class MEFSSIMMetric(Metric):
    """Mean of :func:`~fastmef.metrics.mef_ssim.mef_ssim` over all images it was updated with.

    ``update(fused, exposures)``; ``variant`` and ``scales`` as there.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, variant: str = "ma2015", scales: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = score_name(variant, scales)
        self.variant, self.scales = variant, scales
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, fused: Tensor, exposures: Tensor) -> None:
        scores = mef_ssim(exposures, fused, self.variant, self.scales)
        self.total = self.total + scores.sum()
        self.count = self.count + scores.numel()

    def compute(self) -> Tensor:
        return self.total / self.count
