"""Checkpoints: one safetensors file with everything a run needs to go on, replaced in one step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from fastmef.data.files import atomic_write, display
from fastmef.errors import InputError
from fastmef.training.config import TrainConfig

FORMAT = "fastmef.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``step`` optimiser steps."""

    step: int
    config: TrainConfig
    precision: str
    tensors: dict[str, Tensor]

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model = {k[6:]: v for k, v in self.tensors.items() if k.startswith("model.")}
        network.load_state_dict(model)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in self.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                parameter = parameters[int(index)]
                if value.shape == parameter.shape:
                    # The fused step walks through memory: moments laid out unlike their
                    # parameter would be paired with the wrong elements.
                    value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def save_checkpoint(
    path: Path,
    step: int,
    config: TrainConfig,
    precision: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{key}": value for key, value in values.items()})
    # Copies with one layout: safetensors wants dense tensors, and convolution weights are
    # channels_last here.
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    state: dict[str, Any] = {"step": step, "precision": precision, "config": config.to_dict()}
    atomic_write(path, serialize(dense, {"format": FORMAT, "state": json.dumps(state)}), force=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: missing, damaged, or not a checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{display(path)}: no checkpoint to resume from")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise InputError(f"{display(path)}: not a fastmef training checkpoint")
        state = json.loads(metadata["state"])
        config = TrainConfig.from_dict(state["config"])
        return Checkpoint(int(state["step"]), config, state["precision"], tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{display(path)}: damaged checkpoint, cannot be read") from error
