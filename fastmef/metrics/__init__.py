"""Scores of fused images: MEF-SSIM in its published variants, colourfulness and brightness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmef.functional.mef_ssim import mef_ssim
from fastmef.metrics.brightness import brightness, near_black, near_white
from fastmef.metrics.saturation import saturation
from fastmef.metrics.scene import MEFSSIM, score_name
from fastmef.metrics.table import DECIMALS, SCORES, SceneScores, score_images

if TYPE_CHECKING:
    from fastmef.metrics.torchmetric import MEFSSIMMetric as MEFSSIMMetric

__all__ = [
    "DECIMALS",
    "MEFSSIM",
    "SCORES",
    "SceneScores",
    "brightness",
    "mef_ssim",
    "near_black",
    "near_white",
    "saturation",
    "score_images",
    "score_name",
]


def __getattr__(name: str) -> Any:
    # Needs an optional package, so it loads on first use.
    if name == "MEFSSIMMetric":
        from fastmef.metrics.torchmetric import MEFSSIMMetric

        return MEFSSIMMetric
    raise AttributeError(f"module 'fastmef.metrics' has no attribute {name!r}")
