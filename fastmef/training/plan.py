"""Report which scenes a training would use, without training."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fastmef.data.pairs import Scene, Skipped
from fastmef.training.config import TrainConfig
from fastmef.training.data import DataOptions, find_scenes, open_store, survey
from fastmef.training.distributed import join_world


@dataclass(frozen=True)
class PlannedScene:
    """A scene that would be used."""

    scene: Scene
    height: int
    width: int

    @property
    def bytes(self) -> int:
        """Memory of the decoded scene: 8 bits per channel, float32 for radiance."""
        size = 4 if self.scene.is_radiance else 1
        return len(self.scene.images) * self.height * self.width * 3 * size


@dataclass(frozen=True)
class Plan:
    """The scenes of a training, and the files and scenes that are skipped and why."""

    training: list[PlannedScene]
    validation: list[PlannedScene]
    skipped: list[Skipped]
    memory: int
    """Bytes of decoded photographs that would be kept."""


def plan_training(
    folders: Sequence[str | os.PathLike[str]],
    config: TrainConfig | None = None,
    exclude: Collection[str] = (),
    memory: int | str | None = None,
) -> Plan:
    """Find and decode every photograph that :func:`train` would use.

    Args:
        folders: see :func:`train`, as for the other arguments.

    Raises:
        InputError: a folder cannot be used at all. Single scenes that cannot be used are listed in
            :attr:`Plan.skipped` instead.
    """
    config = config or TrainConfig()
    options = DataOptions(list(folders), exclude, memory=memory, skip_faulty=True)
    found = find_scenes(options, config)
    with join_world() as world:
        store = open_store(options, world)
    survey(found, store, options, config)
    training, validation = (
        [
            PlannedScene(scene, seen.height, seen.width)
            for scene, seen in zip(scenes, store.survey(scenes), strict=True)
        ]
        for scenes in (found.training, found.validation)
    )
    return Plan(training, validation, found.skipped, store.cache.limit)
