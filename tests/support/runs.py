"""A training as the target of another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fastmef.training import TrainConfig, train


def run_training(folder: Path, out: Path, options: dict[str, Any] | None, threads: int) -> None:
    """Start a training with ``options``, or resume the one in ``out``."""
    torch.set_num_threads(threads)
    config = None if options is None else TrainConfig.from_dict(options)
    train(folder, out, config, resume=options is None)
