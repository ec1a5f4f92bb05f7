"""MEF-SSIM as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmef.errors import MissingExtraError
from fastmef.functional.mef_ssim import mef_ssim
from fastmef.metrics.scene import score_name

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingExtraError(
        "MEFSSIMMetric needs torchmetrics, which is not installed: pip install torchmetrics"
    ) from error


class MEFSSIMMetric(Metric):
    """Average :func:`mef_ssim` over all images that the metric was updated with.

    Args:
        variant, scales: as for :func:`mef_ssim`.
        kwargs: as for ``torchmetrics.Metric``.
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
        """Add the scores of a batch. The arguments are those of :func:`mef_ssim`."""
        scores = mef_ssim(fused, exposures, self.variant, self.scales)
        self.total = self.total + scores.sum()
        self.count = self.count + scores.numel()

    def compute(self) -> Tensor:
        """Return the mean score, a scalar."""
        return self.total / self.count
