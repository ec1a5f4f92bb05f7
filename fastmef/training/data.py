"""Find the photographs of a training, survey them once, and cut them into batches."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastmef.data.files import display
from fastmef.data.frames import Frames
from fastmef.data.pairs import Scene
from fastmef.data.patches import PatchSampler, missing_exposures
from fastmef.data.prefetch import prefetch
from fastmef.data.training_set import TrainingSet, find_training_scenes
from fastmef.errors import InputError
from fastmef.inference.memory import available_memory, parse_memory
from fastmef.training.config import TrainConfig
from fastmef.training.distributed import World

Folders = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class DataOptions:
    """Where photographs are and how they are read."""

    folders: Folders
    exclude: Collection[str] = ()
    workers: int = 1
    """Threads that make batches ahead of their use; 0 makes each batch when it is needed."""
    memory: int | str | None = None
    """Memory for decoded photographs of all processes of a machine, such as ``"4GB"``; ``None`` is
    half of what is free."""
    skip_faulty: bool = False
    """Leave out scenes that cannot be used instead of refusing them."""


def find_scenes(options: DataOptions, config: TrainConfig) -> TrainingSet:
    """Find the scenes by the names of files and folders, without opening an image.

    Raises:
        InputError: see :func:`fastmef.data.training_set.find_training_scenes`; or the numbers of
            folders and of their weights differ.
    """
    if not options.folders:
        raise InputError("folders must have one or more folders to train on, got none")
    if config.folder_weights and len(config.folder_weights) != len(options.folders):
        raise InputError(
            f"folder_weights must have a weight for each of the {len(options.folders)} folders,"
            f" got {len(config.folder_weights)}"
        )
    return find_training_scenes(
        options.folders, options.exclude, config.uses_hdr, config.validation, options.skip_faulty
    )


def survey(found: TrainingSet, store: Frames, options: DataOptions, config: TrainConfig) -> None:
    """Decode every photograph once, and skip scenes that cannot be used if ``options`` allow it.

    Raises:
        InputError: a scene cannot be used.
        MissingExtraError: see :func:`fastmef.data.radiance.read_radiance`.
    """
    scenes = [*found.training, *found.validation]
    if not options.skip_faulty:
        store.survey(scenes)
        for scene in scenes:
            if (fault := missing_exposures(scene, config.frames)) is not None:
                raise InputError(f"{display(scene.location)}: {fault}")
        return
    store.look_at(scenes)
    missing = config.frames
    found.remove(lambda scene: store.fault(scene) or missing_exposures(scene, missing), faulty=True)
    if not found.training:
        raise InputError(f"{display(options.folders[0])}: no scene can be used for training")


def open_store(options: DataOptions, world: World) -> Frames:
    """Create the store of decoded photographs, with this process's share of the memory."""
    given = options.memory
    memory = available_memory() // 2 if given is None else parse_memory(given)
    return Frames(memory // world.local_size)


def share_survey(found: TrainingSet, store: Frames, world: World) -> None:
    """Survey every file in one of the processes, and share the results with the others."""
    if world.size > 1:
        store.look_at(world.share([*found.training, *found.validation]))
        for seen in world.gather(store.seen):
            store.take_over(seen)


def create_sampler(scenes: Sequence[Scene], store: Frames, config: TrainConfig) -> PatchSampler:
    return PatchSampler(
        scenes,
        config.patch,
        config.batch_size,
        config.seed,
        config.exposures,
        config.frames,
        config.counts,
        config.folder_weights,
        config.reuse,
        config.rendering,
        store,
    )


def batches(
    sampler: PatchSampler, numbers: Iterator[int], workers: int, device: torch.device
) -> Generator[tuple[int, Tensor], None, None]:
    """Yield number and exposures ``(B, K, 3, patch, patch)`` of every batch, on the device."""

    def make(number: int) -> tuple[int, Tensor]:
        batch = sampler.batch(number)
        return number, batch.pin_memory() if device.type == "cuda" else batch

    with closing(prefetch(make, numbers, workers)) as made:
        for number, batch in made:
            yield number, batch.to(device, non_blocking=True)


def thinned(scene: Scene, count: int | str) -> Scene:
    """Return a scene with at most ``count`` of its exposures, evenly spaced."""
    if isinstance(count, str) or len(scene.images) <= count:
        return scene
    chosen = np.linspace(0, len(scene.images) - 1, count).round().astype(int)
    return Scene(scene.name, tuple(scene.images[k] for k in chosen), scene.folder)
