"""The training objective: the weighted SSIM loss, and the terms for what it cannot see."""

from __future__ import annotations

from torch import Tensor, nn

from fastmef import functional
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss, WeightedSSIMLoss
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.mef_ma2015 import ma2015_combine
from fastmef.training.config import TrainConfig


class Objective(nn.Module):
    """Sum of the loss terms of a :class:`TrainConfig`, from logits."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.structure = WeightedSSIMLoss(config.gamma, config.luminance, scales=config.scales)
        self.brightness = BrightnessLoss()
        self.color = ColorContrastLoss()

    def forward(self, logits: Tensor, exposures: Tensor) -> Tensor:
        config = self.config
        loss = self.structure.from_logits(logits, exposures)
        by_score = config.mef_ssim or config.mef_ssim_1_scale
        if not (config.brightness or config.color or by_score):
            return loss
        fused = functional.softmax_fuse(logits, exposures)
        if config.brightness:
            loss = loss + config.brightness * self.brightness(fused, exposures)
        if config.color:
            loss = loss + config.color * self.color(fused, exposures)
        if by_score:
            sources = STEPS.ma2015_sources(rgb_to_gray(exposures), 3)
            qualities = STEPS.ma2015_qualities(sources, rgb_to_gray(fused))
            coarse_too, fine = ma2015_combine(qualities), ma2015_combine(qualities[:, :1])
            loss = loss + config.mef_ssim * (1 - coarse_too.mean())
            loss = loss + config.mef_ssim_1_scale * (1 - fine.mean())
        return loss
