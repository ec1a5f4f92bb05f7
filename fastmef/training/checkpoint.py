"""Checkpoints: one file with everything that a run needs to continue, replaced atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastmef.data.damage import Fault
from fastmef.data.files import atomic_write, display
from fastmef.data.reading import read_bytes
from fastmef.data.tensors import MAX_BYTES, check_fit, pack, unpack
from fastmef.errors import InputError
from fastmef.training.config import TrainConfig
from fastmef.training.record import DataRecord
from fastmef.training.state import TrainState

FORMAT = "fastmef.checkpoint/4"

_NEEDED = "a checkpoint written by fastmef train"


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``step`` optimiser steps on ``drawn`` batches."""

    path: Path
    step: int
    drawn: int
    config: TrainConfig
    precision: str
    data: DataRecord
    tensors: dict[str, Tensor]

    def restore(self, state: TrainState) -> None:
        """Load everything into a state of the same configuration.

        Raises:
            InputError: the checkpoint is of another network or optimiser.
        """
        try:
            self._load_module("model.", state.network)
            if state.average is not None:
                self._load_module("average.", state.average)
            self._load_optimizer(state.optimizer)
        except (Fault, ValueError, IndexError) as error:
            raise InputError(f"{display(self.path)}: does not fit this network: {error}") from error
        state.step, state.drawn = self.step, self.drawn

    def _load_module(self, prefix: str, module: nn.Module) -> None:
        """Load the tensors whose names begin with ``prefix`` into a module."""
        tensors = {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }
        check_fit(tensors, module.state_dict())
        module.load_state_dict(tensors)

    def _load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Load the optimiser's state, in the memory layout of its parameters."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                parameter = parameters[int(index)]
                if value.ndim:
                    # The fused step pairs elements by their position in memory, so moments need
                    # the layout of their parameter.
                    check_fit({name: value}, {name: parameter})
                    value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(
    path: Path, state: TrainState, config: TrainConfig, precision: str, data: DataRecord
) -> None:
    """Write a checkpoint, which replaces the one before atomically.

    Raises:
        OutputError: see :func:`fastmef.data.files.atomic_write`.
    """
    tensors = {f"model.{name}": value for name, value in state.network.state_dict().items()}
    if state.average is not None:
        average = state.average.state_dict()
        tensors.update({f"average.{name}": value for name, value in average.items()})
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{key}": value for key, value in values.items()})
    about: dict[str, Any] = {
        "step": state.step,
        "drawn": state.drawn,
        "precision": precision,
        "config": config.to_dict(),
        "data": data,
    }
    atomic_write(path, pack(tensors, {"format": FORMAT, "state": json.dumps(about)}), force=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint.
    """
    content = read_bytes(path, MAX_BYTES, _NEEDED)
    try:
        tensors, texts = unpack(content)
        if texts.get("format") != FORMAT:
            raise Fault(f"holds no checkpoint: its format is {texts.get('format')!r}")
        state = json.loads(texts["state"])
        config = TrainConfig.from_dict(state["config"])
        data = {
            str(name): (int(size), str(sha), str(split))
            for name, (size, sha, split) in state["data"].items()
        }
        step, drawn = int(state["step"]), int(state["drawn"])
        return Checkpoint(path, step, drawn, config, state["precision"], data, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = error if isinstance(error, (Fault, InputError)) else "its state cannot be read"
        raise InputError(f"{display(path)}: {what}; needed: {_NEEDED}") from error
