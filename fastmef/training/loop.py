"""The training loop."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from fastmef.allocator import keep_freed_memory
from fastmef.data.damage import Fault
from fastmef.data.files import check_output, display, reason
from fastmef.data.pairs import Scene, find_training_scenes
from fastmef.data.patches import PatchSampler
from fastmef.data.tensors import check_weights
from fastmef.errors import DivergenceError, InputError, OutputError
from fastmef.nn.network import FusionNet
from fastmef.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fastmef.training.config import TrainConfig
from fastmef.training.lock import lock_run
from fastmef.training.log import Log, Progress
from fastmef.training.objective import Objective
from fastmef.training.precision import choose_precision
from fastmef.training.record import difference, record_data
from fastmef.training.validation import try_validation, validate

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
WEIGHTS = "model.safetensors"


def train(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    config: TrainConfig | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    exclude: Collection[str] = (),
) -> Path:
    """Train a :class:`FusionNet` on folders of exposure sets.

    Every 8th scene of the first folder, by name, is kept for validation. The run folder gets
    ``checkpoint.safetensors`` (replaced in one step, so that a run killed at any moment can go on
    from it), ``log.jsonl`` (losses and validation scores) and at the end ``model.safetensors``,
    for :meth:`FusionNet.from_pretrained`.

    Patches are drawn from seed and step alone: a resumed run ends with the same weights, bit for
    bit, as an uninterrupted one with as many threads on the same machine.

    Args:
        folders: one or several, see :func:`fastmef.data.pairs.find_training_scenes`. HDR files in
            them are used with ``exposures="any"``, and ignored with ``"fixed"``.
        out: the run folder; must not hold a run unless ``resume``.
        config: default settings if ``None``. A resumed run keeps its own.
        resume: go on from the checkpoint in ``out``.
        progress: called with every record that goes to the log, and before the first step.
        exclude: names of scenes and HDR files that take no part.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        InputError: no usable scenes, no or a damaged checkpoint, another configuration or other
            photographs than those of the run to be resumed.
        OutputError: ``out`` holds a run already, another training is running in it, or it cannot
            be written.
        MissingExtraError: OpenCV or OpenEXR is needed for an HDR file and not installed.
        DivergenceError: the loss or the weights are no longer finite.
    """
    run = Path(out)
    listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    if not listed:
        raise InputError("no folder to train on")
    if resume:
        return _resume(listed, run, config, progress, exclude)
    config = config or TrainConfig()
    scenes = _find_scenes(listed, exclude, config)
    _create_folder(run)
    with lock_run(run):
        _check_empty(run)
        return _train(scenes, run, config, None, progress)


def _resume(
    folders: Sequence[str | os.PathLike[str]],
    run: Path,
    config: TrainConfig | None,
    progress: Progress | None,
    exclude: Collection[str],
) -> Path:
    if not os.path.isfile(run / CHECKPOINT):
        raise InputError(f"{display(run / CHECKPOINT)}: no checkpoint to resume from")
    with lock_run(run):
        checkpoint = load_checkpoint(run / CHECKPOINT)
        if config is not None and config != checkpoint.config:
            raise InputError(
                f"{display(run)}: was started with other options; resume without options"
            )
        scenes = _find_scenes(folders, exclude, checkpoint.config)
        return _train(scenes, run, checkpoint.config, checkpoint, progress)


def _find_scenes(
    folders: Sequence[str | os.PathLike[str]], exclude: Collection[str], config: TrainConfig
) -> tuple[list[Scene], list[Scene]]:
    return find_training_scenes(folders, exclude, hdr=config.exposures == "any")


def _train(
    scenes: tuple[list[Scene], list[Scene]],
    run: Path,
    config: TrainConfig,
    checkpoint: Checkpoint | None,
    progress: Progress | None,
) -> Path:
    """Train in a locked run folder, from the checkpoint if there is one."""
    training, validation = scenes
    objective = Objective(config)
    initial = None
    if config.initial is not None and checkpoint is None:
        initial = FusionNet.from_pretrained(config.initial)
    data = record_data((*training, *validation))
    if checkpoint is not None and (change := difference(checkpoint.data, data)) is not None:
        raise InputError(f"{display(run)}: was started with other photographs: {change}")
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sampler = PatchSampler(training, config.patch, config.batch_size, config.seed, config.exposures)
    torch.manual_seed(config.seed)
    network = FusionNet(
        exposures=sampler.exposures,
        width=config.width,
        in_features=config.in_features,
        skip_connections=config.skip_connections,
        upsampling=config.upsampling,
    ).to(device)
    if initial is not None:
        _start_from(network, initial, config)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), weight_decay=config.weight_decay, fused=True
    )
    if checkpoint is not None:
        checkpoint.restore(network, optimizer)
        start, precision = checkpoint.step, checkpoint.precision
    else:
        start, precision = 0, config.precision
        if precision == "auto":
            precision = choose_precision(network, objective, sampler.batch(0).to(device))
    try_validation(network, validation)
    log = Log(run / LOG, start, progress)
    log.announce({"event": "start", "step": start, "steps": config.steps, "precision": precision})

    network.train()
    for step in range(start, config.steps):
        began = time.perf_counter()
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        exposures = sampler.batch(step).to(device)
        loss, terms = objective(network, exposures, precision)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergenceError(_divergence(step + 1, value, sampler))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        done = step + 1
        log.write(
            {
                "event": "step",
                "step": done,
                "loss": value,
                "terms": {name: float(term.detach()) for name, term in terms.items()},
                "exposures": exposures.shape[1],
                "learning_rate": rate,
                "seconds": time.perf_counter() - began,
            }
        )
        validates, saves = (
            done % every == 0 or done == config.steps
            for every in (config.validate_every, config.checkpoint_every)
        )
        if validates or saves:
            _check_weights(done, network)
        # Before the checkpoint: a run that is killed in between makes the record again.
        if validates:
            log.write({"event": "validation", "step": done, **validate(network, validation)})
        if saves:
            log.synchronize()
            save_checkpoint(run / CHECKPOINT, done, config, precision, data, network, optimizer)
    network.save(run / WEIGHTS)
    return run / WEIGHTS


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then half a cosine down to zero at the last step."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    remaining = (config.steps - step) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 - math.cos(math.pi * remaining))


def _start_from(network: FusionNet, initial: FusionNet, config: TrainConfig) -> None:
    if initial.config != network.config:
        raise InputError(
            f"{config.initial}: holds a network {initial.config}, the run has {network.config}"
        )
    network.load_state_dict(initial.state_dict())


def _check_weights(step: int, network: FusionNet) -> None:
    try:
        check_weights(network.state_dict())
    except Fault as fault:
        raise DivergenceError(
            f"step {step}: training has diverged, {fault}; a smaller learning_rate may help"
        ) from fault


def _divergence(step: int, loss: float, sampler: PatchSampler) -> str:
    """Say at which step and with which patches the loss was not finite."""
    patches = "; ".join(
        f"{', '.join(display(path) for path in scene.images)} at row {top}, column {left}"
        for scene, top, left in sampler.places(step - 1)
    )
    return (
        f"step {step}: the loss is {loss}, so training has stopped; a smaller learning_rate may"
        f" help. Patches of {sampler.patch} pixels: {patches}"
    )


def _create_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {display(run)}: {reason(error)}") from error


def _check_empty(run: Path) -> None:
    for name in (CHECKPOINT, WEIGHTS):
        if os.path.lexists(run / name):
            raise OutputError(
                f"{display(run)}: holds a run already; --resume (resume=True) goes on with it"
            )
    check_output(run / CHECKPOINT)
