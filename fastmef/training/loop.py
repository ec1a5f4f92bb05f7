"""The training loop."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fastmef.allocator import keep_freed_memory
from fastmef.data.files import atomic_write, check_output, display
from fastmef.data.pairs import find_scenes, split_scenes
from fastmef.data.patches import PatchSampler
from fastmef.errors import InputError, OutputError
from fastmef.nn.network import FusionNet
from fastmef.training.checkpoint import load_checkpoint, save_checkpoint
from fastmef.training.config import TrainConfig
from fastmef.training.objective import Objective
from fastmef.training.precision import autocast, choose_precision
from fastmef.training.validation import validate

Progress = Callable[[dict[str, Any]], None]

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
WEIGHTS = "model.safetensors"


def train(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: TrainConfig | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train a :class:`FusionNet` on a folder of exposure sets.

    Every 8th scene by name is kept for validation. The run folder gets ``checkpoint.safetensors``
    (replaced in one step, so that a run killed at any moment can go on from it),
    ``log.jsonl`` (losses and validation scores) and at the end ``model.safetensors``, for
    :meth:`FusionNet.from_pretrained`.

    Patches are drawn from seed and step alone: a resumed run ends with the same weights, bit for
    bit, as an uninterrupted one with as many threads on the same machine.

    Args:
        folder: see :func:`fastmef.data.pairs.find_scenes`.
        out: the run folder; must not hold a run unless ``resume``.
        config: default settings if ``None``. A resumed run keeps its own.
        resume: go on from the checkpoint in ``out``.
        progress: called with every record that goes to the log, and before the first step.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        InputError: no usable scenes, no or a damaged checkpoint, another configuration than the
            run to be resumed.
        OutputError: ``out`` holds a run already, or cannot be written.
    """
    run = Path(out)
    training, validation = split_scenes(find_scenes(folder))
    if not training:
        raise InputError(f"{display(folder)}: 1 scene; training needs at least 2")
    checkpoint = load_checkpoint(run / CHECKPOINT) if resume else None
    if checkpoint is not None:
        if config is not None and config != checkpoint.config:
            raise InputError(
                f"{display(run)}: was started with other options; resume without options"
            )
        config = checkpoint.config
    config = config or TrainConfig()
    if checkpoint is None:
        _prepare_folder(run)

    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sampler = PatchSampler(training, config.patch, config.batch_size, config.seed)
    torch.manual_seed(config.seed)
    network = FusionNet(
        exposures=sampler.exposures,
        width=config.width,
        in_features=config.in_features,
        skip_connections=config.skip_connections,
        upsampling=config.upsampling,
    ).to(device)
    if config.initial is not None and checkpoint is None:
        _start_from(network, config.initial)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), weight_decay=config.weight_decay, fused=True
    )
    objective = Objective(config)
    if checkpoint is not None:
        checkpoint.restore(network, optimizer)
        start, precision = checkpoint.step, checkpoint.precision
    else:
        start, precision = 0, config.precision
        if precision == "auto":
            precision = choose_precision(network, objective, sampler.batch(0).to(device))
    log = _Log(run / LOG, start, progress)
    log.announce({"event": "start", "step": start, "steps": config.steps, "precision": precision})

    network.train()
    for step in range(start, config.steps):
        began = time.perf_counter()
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        exposures = sampler.batch(step).to(device)
        with autocast(precision, device):
            logits = network.logits(exposures)
        loss = objective(logits, exposures)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done = step + 1
        log.write(
            {
                "event": "step",
                "step": done,
                "loss": float(loss.detach()),
                "learning_rate": rate,
                "seconds": time.perf_counter() - began,
            }
        )
        if done % config.checkpoint_every == 0 or done == config.steps:
            save_checkpoint(run / CHECKPOINT, done, config, precision, network, optimizer)
        if done % config.validate_every == 0 or done == config.steps:
            log.write({"event": "validation", "step": done, **validate(network, validation)})
    network.save(run / WEIGHTS)
    return run / WEIGHTS


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then half a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    remaining = (config.steps - step) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 - math.cos(math.pi * remaining))


def _start_from(network: FusionNet, name_or_path: str) -> None:
    initial = FusionNet.from_pretrained(name_or_path)
    if initial.config != network.config:
        raise InputError(
            f"{name_or_path}: holds a network {initial.config}, the run has {network.config}"
        )
    network.load_state_dict(initial.state_dict())


def _prepare_folder(run: Path) -> None:
    if (run / CHECKPOINT).exists():
        raise OutputError(
            f"{display(run)}: holds a run already; --resume (resume=True) goes on with it"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {display(run)}: {error.strerror}") from error
    check_output(run / CHECKPOINT)


class _Log:
    """One JSON object a line; records later than the checkpoint are dropped on resume."""

    def __init__(self, path: Path, start: int, progress: Progress | None) -> None:
        self._progress = progress
        kept: Sequence[str] = ()
        if start and path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= start]
        atomic_write(path, "".join(f"{line}\n" for line in kept).encode(), force=True)
        self._path = path

    def announce(self, record: dict[str, Any]) -> None:
        if self._progress is not None:
            self._progress(record)

    def write(self, record: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.announce(record)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # cut off in the middle by a kill
