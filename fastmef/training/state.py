"""What the steps of a training change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastmef.nn.network import FusionNet
from fastmef.training.config import TrainConfig


@dataclass
class TrainState:
    """Network and optimiser after ``step`` steps on ``drawn`` batches."""

    network: FusionNet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    """Moving average of the weights, if the configuration wants one."""
    step: int = 0
    drawn: int = 0
    """Batches of all processes together."""

    @classmethod
    def begin(cls, network: FusionNet, config: TrainConfig) -> TrainState:
        """Return the state before the first step."""
        optimizer = torch.optim.AdamW(
            network.parameters(), weight_decay=config.weight_decay, fused=True
        )
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

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, batches: int) -> None:
        """Apply the gradients of so many batches."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        self.drawn += batches
