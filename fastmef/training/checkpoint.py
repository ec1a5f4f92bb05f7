"""Checkpoints: one file with everything a run needs to go on, replaced in one step."""

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

FORMAT = "fastmef.checkpoint/3"

_NEEDED = "a checkpoint written by fastmef train"


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``step`` optimiser steps."""

    path: Path
    step: int
    config: TrainConfig
    precision: str
    data: DataRecord
    tensors: dict[str, Tensor]

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the state into a network and an optimiser of the same configuration.

        Raises:
            InputError: they are of another kind.
        """
        model = {k[6:]: v for k, v in self.tensors.items() if k.startswith("model.")}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        try:
            check_fit(model, network.state_dict())
            network.load_state_dict(model)
            for name, value in self.tensors.items():
                if name.startswith("optimizer."):
                    _, index, key = name.split(".")
                    parameter = parameters[int(index)]
                    if value.ndim:
                        # The fused step walks through memory: moments laid out unlike their
                        # parameter would be paired with the wrong elements.
                        check_fit({name: value}, {name: parameter})
                        value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                    state.setdefault(int(index), {})[key] = value
        except (Fault, ValueError, IndexError) as error:
            raise InputError(f"{display(self.path)}: does not fit this network: {error}") from error
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(
    path: Path,
    step: int,
    config: TrainConfig,
    precision: str,
    data: DataRecord,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint; the one before is replaced in one step.

    Raises:
        OutputError: see :func:`fastmef.data.files.atomic_write`.
    """
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{key}": value for key, value in values.items()})
    state: dict[str, Any] = {
        "step": step,
        "precision": precision,
        "config": config.to_dict(),
        "data": data,
    }
    atomic_write(path, pack(tensors, {"format": FORMAT, "state": json.dumps(state)}), force=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: missing, damaged, or not a checkpoint.
    """
    content = read_bytes(path, MAX_BYTES, _NEEDED)
    try:
        tensors, texts = unpack(content)
        if texts.get("format") != FORMAT:
            raise Fault(f"holds no checkpoint: its format is {texts.get('format')!r}")
        state = json.loads(texts["state"])
        config = TrainConfig.from_dict(state["config"])
        data = {str(name): (int(size), str(sha)) for name, (size, sha) in state["data"].items()}
        return Checkpoint(path, int(state["step"]), config, state["precision"], data, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = error if isinstance(error, (Fault, InputError)) else "its state cannot be read"
        raise InputError(f"{display(path)}: {what}; needed: {_NEEDED}") from error
