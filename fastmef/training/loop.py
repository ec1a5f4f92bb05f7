"""The training loop."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import torch

from fastmef.allocator import keep_freed_memory
from fastmef.data.files import display
from fastmef.data.frames import Frames
from fastmef.data.training_set import TrainingSet
from fastmef.errors import InputError
from fastmef.nn.network import FusionNet
from fastmef.training.batchnorm import synchronize_batchnorm
from fastmef.training.checkpoint import Checkpoint, save_checkpoint
from fastmef.training.config import TrainConfig
from fastmef.training.data import (
    DataOptions,
    batches,
    create_sampler,
    find_scenes,
    open_store,
    share_survey,
    survey,
    thinned,
)
from fastmef.training.distributed import World, join_world
from fastmef.training.log import Log, Progress
from fastmef.training.objective import Objective
from fastmef.training.outputs import Outputs
from fastmef.training.precision import choose_precision
from fastmef.training.recompute import recompute_activations
from fastmef.training.record import (
    DataRecord,
    Digest,
    difference,
    digest_files,
    record_data,
)
from fastmef.training.run_folder import CHECKPOINT, LOG, PICTURES, WEIGHTS, new_run, resumed_run
from fastmef.training.state import TrainState
from fastmef.training.step import Stepper, can_be_graphed, check_finite
from fastmef.training.survey_file import load_survey, save_survey
from fastmef.training.validation import try_validation, validate


def train(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    config: TrainConfig | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    exclude: Collection[str] = (),
    *,
    workers: int = 1,
    memory: int | str | None = None,
    skip_faulty: bool = False,
    pictures: int = 4,
    tensorboard: bool = False,
) -> Path:
    """Train a :class:`FusionNet` on exposure sets.

    Every 8th scene of the first folder, in the order of names, is kept for validation, unless the
    configuration says otherwise. The run folder gets ``checkpoint.safetensors`` (replaced
    atomically, so that a run killed at any moment can continue from it), ``log.jsonl`` (losses and
    validation scores), ``pictures`` (fused scenes for validation) and, at the end,
    ``model.safetensors`` for :meth:`FusionNet.from_pretrained`.

    Patches depend on the seed and the number of the batch alone: a resumed run ends with the same
    weights, bit for bit, as an uninterrupted one with the same number of threads and processes on
    the same machine. Under ``torchrun`` the processes share the work: in each step every process
    takes a batch. A run may be resumed with another number of processes.

    Args:
        folders: one or several folders or manifests, see
            :func:`fastmef.data.training_set.find_training_scenes`. HDR files in them are used with
            ``exposures="any"`` or a number of ``frames``.
        out: the run folder; it must not hold a run unless ``resume`` is true.
        config: the configuration; ``None`` uses the defaults. A resumed run keeps its own.
        resume: continue from the checkpoint in ``out``.
        progress: called in the main process with every record of the log, and with a record before
            the first step.
        exclude: names of scenes and HDR files that are not used.
        workers: threads in each process that make batches ahead of their use; 0 makes each batch
            when it is needed.
        memory: limit for decoded photographs in the memory of this machine, in bytes or as in
            ``"4GB"``. Photographs beyond it are decoded again when they are needed. ``None`` is
            half of the free memory.
        skip_faulty: skip scenes that cannot be used, and list them in the record ``"start"``,
            instead of refusing to train.
        pictures: number of validation scenes whose fused image is kept at every validation.
        tensorboard: also write losses, scores and pictures to ``tensorboard`` in the run folder.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        InputError: there are no usable scenes; a file cannot be read or has changed since the
            start; the checkpoint is missing or damaged; the configuration or the photographs differ
            from those of the run to be resumed.
        OutputError: ``out`` holds a run already, another training is running in it, or it cannot
            be written.
        MissingExtraError: OpenCV, OpenEXR or TensorBoard is needed and not installed.
        DivergenceError: the loss or the weights are no longer finite.
    """
    run = Path(out)
    listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    options = DataOptions(listed, exclude, workers, memory, skip_faulty)
    outputs = Outputs(run, pictures, tensorboard, progress)
    with join_world() as world:
        if resume:
            with resumed_run(run, config, world) as checkpoint:
                found = find_scenes(options, checkpoint.config)
                training = Training(found, outputs, checkpoint.config, checkpoint, options, world)
                return training.run()
        config = config or TrainConfig()
        found = find_scenes(options, config)
        with new_run(run, world):
            return Training(found, outputs, config, None, options, world).run()


class Training:
    """A training in a locked run folder, which starts from the checkpoint if there is one."""

    def __init__(
        self,
        found: TrainingSet,
        outputs: Outputs,
        config: TrainConfig,
        checkpoint: Checkpoint | None,
        options: DataOptions,
        world: World,
    ) -> None:
        self.outputs, self.config, self.options, self.world = outputs, config, options, world
        self.objective = Objective(config)
        initial = None
        if config.initial is not None and checkpoint is None:
            initial = FusionNet.from_pretrained(config.initial)
        keep_freed_memory()
        store = open_store(options, world)
        known = load_survey(outputs.folder, store, found.paths)
        share_survey(found, store, world)
        survey(found, store, options, config)
        self.found, self.record = found, self._record(found, checkpoint, store, known)
        self.sampler = create_sampler(found.training, store, config)
        self.validation = [thinned(scene, self.sampler.exposures) for scene in found.validation]
        graphed = can_be_graphed(config, world)
        self.state = TrainState.begin(self._network(initial), config, capturable=graphed)
        if checkpoint is None:
            self.precision = self._choose_precision()
        else:
            checkpoint.restore(self.state)
            self.precision = checkpoint.precision
        # This follows the probe of precision, which runs in one process.
        if config.sync_batchnorm and world.size > 1:
            synchronize_batchnorm(self.state.network, world.device)
        if config.recompute:
            recompute_activations(self.state.network)

    def run(self) -> Path:
        """Take the remaining steps; return the path of the weights."""
        state, config, world, folder = self.state, self.config, self.world, self.outputs.folder
        try_validation(state.model, self.validation, world)
        listeners = self.outputs.listeners(state.step) if world.is_main else []
        log = Log(folder / LOG, state.step, listeners, world.is_main)
        log.announce(
            {
                "event": "start",
                "step": state.step,
                "steps": config.steps,
                "precision": self.precision,
                "processes": world.size,
                "skipped": [str(skipped) for skipped in self.found.skipped],
            }
        )
        state.network.train()
        with closing(self._batches()) as made:
            step = Stepper(state, self.objective, self.precision, made, self.sampler, world)
            while state.step < config.steps:
                log.write(step())
                validates = self._is_due(config.validate_every)
                saves = self._is_due(config.checkpoint_every)
                if validates or saves:
                    check_finite(state)
                # Validation precedes the checkpoint: a run killed in between validates again.
                if validates and self.validation:
                    log.write({"event": "validation", "step": state.step, **self._validate()})
                if saves and world.is_main:
                    log.synchronize()
                    path = folder / CHECKPOINT
                    save_checkpoint(path, state, config, self.precision, self.record)
        if world.is_main:
            state.model.save(folder / WEIGHTS)
        return folder / WEIGHTS

    def _is_due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.config.steps

    def _validate(self) -> dict[str, float]:
        model, step = self.state.model, self.state.step
        self.world.take_buffers_from_main(model)
        pictures, kept = self.outputs.folder / PICTURES, self.outputs.pictures
        return validate(model, self.validation, self.world, pictures, kept, step)

    def _batches(self) -> Generator[tuple[int, torch.Tensor], None, None]:
        """Yield the batches of this process: every ``size``-th, from the first not drawn yet."""
        numbers = count(self.state.drawn + self.world.rank, self.world.size)
        left = (self.config.steps - self.state.step) * self.config.accumulate
        return batches(self.sampler, islice(numbers, left), self.options.workers, self.world.device)

    def _record(
        self,
        found: TrainingSet,
        checkpoint: Checkpoint | None,
        store: Frames,
        known: dict[Path, Digest],
    ) -> DataRecord:
        """Return the record of the photographs, in the main process.

        Raises:
            InputError: they are not those of the run to be resumed.
        """
        if not self.world.is_main:
            return {}
        digests = digest_files(found, known)
        record = record_data(found, digests)
        if checkpoint is not None and (change := difference(checkpoint.data, record)) is not None:
            raise InputError(
                f"{display(self.outputs.folder)}: was started with other photographs: {change}"
            )
        save_survey(self.outputs.folder, store, digests)
        return record

    def _network(self, initial: FusionNet | None) -> FusionNet:
        """Return the network before the first step, with the weights of ``initial`` if given."""
        config = self.config
        torch.manual_seed(config.seed)
        network = FusionNet(
            exposures=self.sampler.exposures,
            width=config.width,
            in_features=config.in_features,
            skip_connections=config.skip_connections,
            upsampling=config.upsampling,
        ).to(self.world.device)
        if initial is not None:
            if initial.config != network.config:
                raise InputError(
                    f"{config.initial}: holds a network {initial.config}, the run has"
                    f" {network.config}"
                )
            network.load_state_dict(initial.state_dict())
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def _choose_precision(self) -> str:
        """Return the configured precision; resolve ``"auto"`` in the main process for all."""
        if self.config.precision != "auto":
            return self.config.precision
        precision = ""
        if self.world.is_main:
            batch = self.sampler.batch(0).to(self.world.device)
            precision = choose_precision(self.state.network, self.objective, batch)
        return self.world.from_main(precision)
