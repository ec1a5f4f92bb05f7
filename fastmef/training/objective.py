"""The training objective: a network's fusion of a batch, and the terms of the loss on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastmef import functional
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss, WeightedSSIMLoss
from fastmef.nn.multiscale import blend
from fastmef.nn.network import FusionNet
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.mef_color2018 import Color2018Sources, color2018_score, color2018_sources
from fastmef.reference.mef_ma2015 import ma2015_combine
from fastmef.reference.mef_mefnet import MefnetSources
from fastmef.reference.pyramid import reduce
from fastmef.training.config import TERMS, TrainConfig
from fastmef.training.precision import autocast


class Loss(NamedTuple):
    """What :class:`Objective` returns."""

    total: Tensor
    """The sum of the terms by their weights."""
    terms: dict[str, Tensor]
    """Each term whose weight is above 0, without its weight."""


class Sources(NamedTuple):
    """The maps of a batch that its exposures alone decide; ``None`` where no term needs them."""

    ma2015: tuple | None
    mefnet: MefnetSources | None
    color2018: Color2018Sources | None


class Objective:
    """The loss of a :class:`TrainConfig`.

    Args:
        config: the weights of the terms and the blend.

    Raises:
        InputError: an unknown ``gamma``.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.structure = WeightedSSIMLoss(config.gamma, config.luminance, scales=config.scales)
        self.brightness = BrightnessLoss()
        self.color = ColorContrastLoss()

    def __call__(self, network: FusionNet, exposures: Tensor, precision: str) -> Loss:
        """Fuse ``(B, K, 3, H, W)`` with the network computing in ``precision``; form the loss."""
        if self.config.blend == "sum":
            with autocast(precision, exposures.device):
                logits = network.logits(exposures)
            return self.loss(functional.softmax_fuse(logits, exposures), exposures, logits)
        with torch.no_grad():
            pyramid = functional.exposure_pyramid(exposures, self.config.levels)
            shares = functional.exposure_shares(pyramid.base)
        context = (shares,) if network.config["exposures"] == "any" else ()
        with autocast(precision, exposures.device):
            logits = network.logits(pyramid.base, *context)
        return self.loss(blend(logits, exposures, pyramid, shares), exposures)

    def loss(self, fused: Tensor, exposures: Tensor, logits: Tensor | None = None) -> Loss:
        """Form the loss of a fused image ``(B, 3, H, W)``.

        Where it is the plain sum by the softmax of ``logits``, the paper's loss is formed from
        these: that needs no gradient w.r.t. an image in RGB.
        """
        config = self.config
        sources = self._sources(exposures)
        gray = rgb_to_gray(fused)
        terms: dict[str, Tensor] = {}
        if config.structure:
            if logits is None:
                terms["structure"] = self.structure(fused, exposures)
            else:
                terms["structure"] = self.structure.from_logits(logits, exposures)
        if sources.ma2015 is not None:
            qualities = STEPS.ma2015_qualities(sources.ma2015, gray)
            if config.mef_ssim:
                terms["mef_ssim"] = 1 - ma2015_combine(qualities).mean()
            if config.mef_ssim_1_scale:
                terms["mef_ssim_1_scale"] = 1 - qualities[:, 0].mean()
        if sources.mefnet is not None:
            luminance, structure = STEPS.mefnet_factors(sources.mefnet, gray)
            terms["mefnet"] = 1 - (luminance * structure).mean()
        if sources.color2018 is not None:
            terms["color2018"] = 1 - color2018_score(sources.color2018, reduce(fused)).mean()
        if config.brightness:
            terms["brightness"] = self.brightness(fused, exposures)
        if config.color:
            terms["color"] = self.color(fused, exposures)
        weighted = [getattr(config, name) * terms[name] for name in TERMS if name in terms]
        return Loss(torch.stack(weighted).sum(), terms)

    @torch.no_grad()
    def _sources(self, exposures: Tensor) -> Sources:
        config = self.config
        ma2015 = mefnet = color2018 = None
        if config.mef_ssim or config.mef_ssim_1_scale or config.mefnet:
            gray = rgb_to_gray(exposures)
            if config.mef_ssim or config.mef_ssim_1_scale:
                ma2015 = STEPS.ma2015_sources(gray, 3 if config.mef_ssim else 1)
            if config.mefnet:
                mefnet = STEPS.mefnet_sources(gray)
        if config.color2018:
            color2018 = color2018_sources(functional.exposure_pyramid(exposures, 1).base)
        return Sources(ma2015, mefnet, color2018)
