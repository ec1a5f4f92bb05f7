"""The training objective: the weighted SSIM loss, and the terms for what it cannot see."""

from __future__ import annotations

from torch import Tensor, nn

from fastmef import functional
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss, WeightedSSIMLoss
from fastmef.reference.color import rgb_to_gray
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
        if not (config.brightness or config.color or config.mef_ssim):
            return loss
        fused = functional.softmax_fuse(logits, exposures)
        if config.brightness:
            loss = loss + config.brightness * self.brightness(fused, exposures)
        if config.color:
            loss = loss + config.color * self.color(fused, exposures)
        if config.mef_ssim:
            score = functional.mef_ssim(rgb_to_gray(exposures), rgb_to_gray(fused))
            loss = loss + config.mef_ssim * (1 - score.mean())
        return loss
