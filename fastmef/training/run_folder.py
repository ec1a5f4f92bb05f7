"""Create, lock and check the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from fastmef.data.files import check_output, display, reason
from fastmef.errors import InputError, OutputError
from fastmef.training.checkpoint import Checkpoint, load_checkpoint
from fastmef.training.config import TrainConfig
from fastmef.training.distributed import World
from fastmef.training.lock import lock_run

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
WEIGHTS = "model.safetensors"
PICTURES = "pictures"


@contextmanager
def new_run(run: Path, world: World) -> Iterator[None]:
    """Create and lock a run folder. Only the main process does this.

    Raises:
        OutputError: the folder holds a run, another training is running in it, or it cannot be
            written.
    """
    if world.is_main:
        _create(run)
    with lock_run(run) if world.is_main else nullcontext():
        if world.is_main:
            _check_empty(run)
        yield


@contextmanager
def resumed_run(run: Path, config: TrainConfig | None, world: World) -> Iterator[Checkpoint]:
    """Lock a run folder, in the main process only, and read its checkpoint.

    Raises:
        InputError: there is no checkpoint, it is damaged, or its configuration is not ``config``.
        OutputError: another training is running in the folder, or it cannot be written.
    """
    if not os.path.isfile(run / CHECKPOINT):
        raise InputError(f"{display(run / CHECKPOINT)}: no checkpoint to resume from")
    with lock_run(run) if world.is_main else nullcontext():
        checkpoint = load_checkpoint(run / CHECKPOINT)
        if config is not None and config != checkpoint.config:
            raise InputError(
                f"{display(run)}: was started with other options; resume without options"
            )
        yield checkpoint


def _create(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {display(run)}: {reason(error)}") from error


def _check_empty(run: Path) -> None:
    """Check that the folder holds no run and can be written."""
    for name in (CHECKPOINT, WEIGHTS):
        if os.path.lexists(run / name):
            raise OutputError(
                f"{display(run)}: holds a run already; --resume (resume=True) goes on with it"
            )
    check_output(run / CHECKPOINT)
