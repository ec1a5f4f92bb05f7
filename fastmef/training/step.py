"""One step of the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fastmef.data.damage import Fault
from fastmef.data.files import display
from fastmef.data.patches import PatchSampler
from fastmef.data.tensors import check_weights
from fastmef.errors import DivergenceError
from fastmef.training.config import TrainConfig
from fastmef.training.distributed import World
from fastmef.training.graph import GraphedStep, Update, set_learning_rate
from fastmef.training.objective import Objective
from fastmef.training.parallel import TrainedNetwork
from fastmef.training.schedule import learning_rate
from fastmef.training.state import TrainState
from fastmef.training.timing import PhaseTimer

Values = dict[str, Tensor]


def can_be_graphed(config: TrainConfig, world: World) -> bool:
    """Return whether all steps do the same work on one GPU, so that a CUDA graph can repeat it."""
    varies = config.exposures == "any" or config.accumulate > 1 or config.recompute
    return world.device.type == "cuda" and world.size == 1 and not varies


class Stepper:
    """Take optimiser steps with the clipped mean gradient of ``accumulate`` batches per process.

    If :func:`can_be_graphed`, the step runs as a CUDA graph. Its parts cannot be timed then, so all
    time counts as the network's.

    Args:
        state: the state; its optimiser must be capturable if the step runs as a graph.
        precision: ``"float32"`` or ``"bfloat16"``.
        batches: number and exposures of the batches of this process, in order.
        sampler: the sampler of the batches, for messages.
    """

    def __init__(
        self,
        state: TrainState,
        objective: Objective,
        precision: str,
        batches: Iterator[tuple[int, Tensor]],
        sampler: PatchSampler,
        world: World,
    ) -> None:
        self._state, self._objective, self._precision = state, objective, precision
        self._batches, self._sampler, self._world = batches, sampler, world
        self._config: TrainConfig = objective.config
        self._timer = PhaseTimer(world.device)
        self._network = TrainedNetwork(state.network, world, self._timer)
        self._update = Update(
            state.network, objective, state.optimizer, precision, self._config.clip
        )
        self._graphed = GraphedStep(self._update) if can_be_graphed(self._config, world) else None

    def __call__(self) -> dict[str, Any]:
        """Take the next step; return its record over all processes.

        Raises:
            DivergenceError: the loss is not finite.
            InputError: a file has changed since the start.
        """
        state, config = self._state, self._config
        rate = learning_rate(state.step, config)
        set_learning_rate(state.optimizer, rate)
        values, shapes = self._step() if self._graphed is None else self._replay(self._graphed)
        state.count(config.accumulate * self._world.size)
        terms = _means(values, self._world)
        times = self._timer.finish()
        return {
            "event": "step",
            "step": state.step,
            "loss": terms.pop("loss"),
            "terms": terms,
            "exposures": max(shape[1] for shape in shapes),
            "patches": sum(shape[0] for shape in shapes) * self._world.size,
            "learning_rate": rate,
            "seconds": sum(times.values()),
            "times": times,
        }

    def _step(self) -> tuple[list[Values], list[torch.Size]]:
        """Take a step without a graph; return loss and terms of the batches, and their shapes."""
        state, config = self._state, self._config
        state.optimizer.zero_grad(set_to_none=True)
        values, shapes = [], []
        for left in reversed(range(config.accumulate)):
            self._timer.start("data")
            number, exposures = next(self._batches)
            self._timer.start("loss")
            with self._network.accumulating(more=left > 0):
                values.append(self._backward(number, exposures))
            shapes.append(exposures.shape)
        self._timer.start("optimizer")
        if config.clip:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
        state.optimizer.step()
        return values, shapes

    def _backward(self, number: int, exposures: Tensor) -> Values:
        """Add the gradient of a batch; return its ``loss`` and the terms of the loss."""
        loss, terms = self._objective(self._network, exposures, self._precision)
        self._check(float(loss.detach()), number)
        (loss / self._config.accumulate).backward()
        return {name: term.detach() for name, term in {"loss": loss, **terms}.items()}

    def _replay(self, graphed: GraphedStep) -> tuple[list[Values], list[torch.Size]]:
        """Do the same as :meth:`_step` with a graph; the loss is checked after the update."""
        self._timer.start("data")
        number, exposures = next(self._batches)
        self._timer.start("network")
        results = graphed(exposures)
        self._check(float(results[0]), number)
        names = ("loss", *self._update.terms)
        return [dict(zip(names, results, strict=True))], [exposures.shape]

    def _check(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            raise DivergenceError(_divergence(self._state.step + 1, loss, number, self._sampler))


def _means(values: list[Values], world: World) -> dict[str, float]:
    """Return the mean of every value over batches and processes."""
    stacked = torch.stack([torch.stack(list(batch.values())).double() for batch in values])
    return dict(zip(values[0], world.mean(stacked.mean(dim=0)).tolist(), strict=True))


def check_finite(state: TrainState) -> None:
    """Check that the weights are finite and not larger than those of a trained network.

    Raises:
        DivergenceError: they are not.
    """
    try:
        check_weights(state.network.state_dict())
    except Fault as fault:
        raise DivergenceError(
            f"step {state.step}: training has diverged, {fault}; a smaller learning_rate may help"
        ) from fault


def _divergence(step: int, loss: float, number: int, sampler: PatchSampler) -> str:
    """Say at which step and with which patches the loss was not finite."""
    patches = "; ".join(
        f"{', '.join(display(path) for path in scene.images)} at row {top}, column {left}"
        for scene, top, left in sampler.positions(number)
    )
    return (
        f"step {step}: the loss is {loss}, so training has stopped; a smaller learning_rate may"
        f" help. Patches of {sampler.patch} pixels: {patches}"
    )
