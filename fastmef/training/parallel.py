"""Wrap the network for training: time its passes, and average gradients over processes."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fastmef.nn.network import FusionNet
from fastmef.training.distributed import World
from fastmef.training.timing import PhaseTimer


class TrainedNetwork:
    """Run forward passes of a network whose gradients are averaged over all processes."""

    def __init__(self, network: FusionNet, world: World, timer: PhaseTimer) -> None:
        self.config, self._network, self._timer = network.config, network, timer
        self._parallel: DistributedDataParallel | None = None
        if world.size > 1:
            # PyTorch warns about 1×1 convolutions, whose layout is ambiguous; they are not slower.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            devices = [world.device] if world.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(network, device_ids=devices)

    def logits(self, exposures: Tensor, shares: Tensor | None = None) -> Tensor:
        """See :meth:`FusionNet.logits`."""
        self._timer.start("network")
        forward: Any = self._network if self._parallel is None else self._parallel
        logits: Tensor = forward(exposures, shares, fuse=False)
        self._timer.start("loss")
        # Autograd computes this gradient last in the backward pass of the loss.
        logits.register_hook(self._begin_network)
        return logits

    def _begin_network(self, _grad: Tensor) -> None:
        self._timer.start("network")

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        """Return a context; with ``more`` batches to follow, gradients are not averaged in it."""
        if self._parallel is None or not more:
            return nullcontext()
        return self._parallel.no_sync()
