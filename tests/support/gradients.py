"""Compute the gradients of one batch in several processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fastmef import FusionNet
from fastmef.training import TrainConfig
from fastmef.training.batchnorm import synchronize_batchnorm
from fastmef.training.distributed import World, join_world
from fastmef.training.objective import Objective
from fastmef.training.parallel import TrainedNetwork
from fastmef.training.timing import PhaseTimer


def new_network(config: TrainConfig) -> FusionNet:
    """Return a small network in double precision with fixed weights."""
    torch.manual_seed(0)
    exposures = "any" if config.exposures == "any" else 2
    return FusionNet(exposures, width=2, in_features="rgb", skip_connections=True).double()


def exposures() -> Tensor:
    """Return four pairs of exposures, the same in every process."""
    light = torch.rand(
        4, 1, 3, 48, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return (light * torch.tensor([0.5, 1.6])[:, None, None, None]).clamp(0, 1)


def write_gradients(config: TrainConfig, synchronized: bool, path: Path) -> None:
    """Write the gradients of a step on this process's share of :func:`exposures`."""
    torch.set_num_threads(1)
    with join_world() as world:
        _take_step(world, config, synchronized, path)


def _take_step(world: World, config: TrainConfig, synchronized: bool, path: Path) -> None:
    network = new_network(config)
    if synchronized:
        synchronize_batchnorm(network, world.device)
    timer = PhaseTimer(world.device)
    share = exposures().chunk(world.size)[world.rank]
    parallel = TrainedNetwork(network, world, timer)
    Objective(config)(parallel, share, "float32").total.backward()
    world.take_buffers_from_main(network)
    found = {name: p.grad for name, p in network.named_parameters()}
    found |= {f"{name} after": value for name, value in network.named_buffers()}
    torch.save(found, path / f"{world.rank}.pt")
