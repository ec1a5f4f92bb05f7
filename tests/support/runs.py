"""Functions that run a training in another process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastmef.training import TrainConfig, train


def small(recipe: str = "default", **options: Any) -> TrainConfig:
    """Return a configuration with few steps and a narrow network in float32."""
    sizes: dict[str, Any] = {
        "width": 2,
        "steps": 4,
        "patch": 48,
        "levels": 1,
        "warmup": 2,
        "precision": "float32",
        "checkpoint_every": 2,
        "validate_every": 4,
    }
    return TrainConfig.recipe(recipe, **sizes | options)


def run_training(
    folders: Any,
    out: Path,
    options: dict[str, Any] | None,
    threads: int,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Start a training with ``options``, or resume the one in ``out``."""
    torch.set_num_threads(threads)
    config = None if options is None else TrainConfig.from_dict(options)
    train(folders, out, config, resume=options is None, progress=progress)


def stop_after(step: int, folders: Any, out: Path, options: dict[str, Any], threads: int) -> None:
    """Start a training whose main process exits after a step."""

    def progress(record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == step:
            os._exit(1)

    run_training(folders, out, options, threads, progress)
