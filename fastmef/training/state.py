"""The state of a training, which every step changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastmef.nn.network import FusionNet
from fastmef.training.config import TrainConfig
from fastmef.training.graph import capturable_adamw


@dataclass
class TrainState:
    """Network and optimiser after ``step`` steps on ``drawn`` batches."""

    network: FusionNet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    """Moving average of the weights, if the configuration wants one."""
    step: int = 0
    drawn: int = 0
    """Number of batches of all processes together."""

    @classmethod
    def begin(cls, network: FusionNet, config: TrainConfig, capturable: bool = False) -> TrainState:
        """Return the state before the first step.

        Args:
            capturable: create an optimiser whose step can be captured in a CUDA graph.
        """
        new_optimizer = capturable_adamw if capturable else partial(torch.optim.AdamW, fused=True)
        optimizer = new_optimizer(network.parameters(), weight_decay=config.weight_decay)
        average = None
        if config.ema:
            average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
        return cls(network, optimizer, average)

    @property
    def model(self) -> FusionNet:
        """The network that is validated and saved."""
        if self.average is None:
            return self.network
        return self.average.module  # type: ignore[return-value]

    def count(self, batches: int) -> None:
        """Count an optimiser step on this number of batches, and update the moving average."""
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        self.drawn += batches
