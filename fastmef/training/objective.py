"""The training objective: a network's fusion of a batch, and the terms of the loss on it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fastmef import functional
from fastmef.nn.multiscale import blend
from fastmef.nn.objective import FusionObjective, ObjectiveOutput
from fastmef.training.config import TERMS, TrainConfig
from fastmef.training.precision import autocast


class Predictor(Protocol):
    """A :class:`FusionNet`, or an object that computes logits as it does."""

    config: dict[str, Any]

    def logits(self, exposures: Tensor, shares: Tensor | None = None) -> Tensor:
        """See :meth:`FusionNet.logits`."""
        ...


class Objective:
    """Fuse a batch as a :class:`TrainConfig` says, and compute its :class:`FusionObjective`.

    Args:
        config: the weights of the terms and the blend.

    Raises:
        InputError: ``gamma`` is unknown.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        weights = {name: getattr(config, name) for name in TERMS}
        self.loss = FusionObjective(weights, config.gamma, config.luminance, config.scales)

    def __call__(self, network: Predictor, exposures: Tensor, precision: str) -> ObjectiveOutput:
        """Fuse ``(B, K, 3, H, W)`` with the network in ``precision``; return loss and terms."""
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
