"""The data, budget, stored results and trained networks of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastmef.data.pairs import Scene, find_scenes, split_scenes
from fastmef.experiments.budget import Budget
from fastmef.experiments.photographs import View, reduced, views
from fastmef.experiments.store import Store, Values, digest
from fastmef.nn.network import FusionNet
from fastmef.training import TrainConfig, train

T = TypeVar("T")


class Lab:
    """The data, sizes and intermediate results of one experiment.

    Args:
        data: a folder with ``pairs``, scenes of two exposures, and ``hdr``, HDR files; an
            experiment needs one of them or both.
        work: a folder for prepared photographs, trained networks and results of variants.
            Experiments on the same data may share it.
        name: name of the experiment.
        budget: sizes of the experiment.
        progress: called with a line for every variant that is computed.
    """

    def __init__(
        self, data: Path, work: Path, name: str, budget: Budget, progress: Callable[[str], None]
    ) -> None:
        self.data, self.work, self.budget = data, work, budget
        self.store = Store(work / name, progress)

    @cached_property
    def pairs(self) -> Path:
        """The folder of pairs, in the size of the budget."""
        side = self.budget.side
        return reduced(self.data / "pairs", self.work / f"pairs_{side}_{self.names}", side)

    @cached_property
    def training_scenes(self) -> list[Scene]:
        """The scenes that networks are trained on."""
        return split_scenes(find_scenes(self.pairs))[0]

    @cached_property
    def test_scenes(self) -> list[Scene]:
        """The scenes that are scored, from every 8th scene, which is not trained on."""
        return spaced(split_scenes(find_scenes(self.pairs))[1], self.budget.scenes)

    @cached_property
    def _views(self) -> tuple[list[View], list[View]]:
        return views(self.data / "hdr", self.budget.side)

    @property
    def training_views(self) -> list[View]:
        """Views of the HDR files for training."""
        return self._views[0]

    @cached_property
    def test_views(self) -> list[View]:
        """The views that are scored, from the HDR files held back."""
        return spaced(self._views[1], self.budget.scenes)

    @cached_property
    def names(self) -> str:
        """A hash of the names of all scenes and HDR files. Results of other data are not reused."""
        folders = [self.data / "pairs", self.data / "hdr"]
        found = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return digest(sorted(found))

    @property
    def seeds(self) -> range:
        """The seeds of variants for which a difference is claimed."""
        return range(self.budget.seeds)

    def config(self, seed: int, recipe: str = "paper", **options: Any) -> TrainConfig:
        """Return a configuration of this budget in float32, by default the paper's training."""
        steps = self.budget.steps
        return TrainConfig.recipe(
            recipe,
            seed=seed,
            width=self.budget.width,
            steps=steps,
            patch=self.budget.patch,
            batch_size=self.budget.batch_size,
            warmup=min(100, steps // 10),
            precision="float32",
            validate_every=steps,
            **options,
        )

    def network(
        self, config: TrainConfig, folder: Path, exclude: Collection[str] = ()
    ) -> FusionNet:
        """Return a network trained on a folder of scenes; load it if it has been trained before."""
        settings = [changes(config), folder.name, sorted(exclude)]
        run = self.work / "runs" / digest(settings)
        weights = run / "model.safetensors"
        if not weights.exists():
            resume = (run / "checkpoint.safetensors").exists()
            # The experiment computes its own scores, so one validation scene is enough.
            unseen = [scene.name for scene in split_scenes(find_scenes(folder))[1][1:]]
            train([folder], run, config, resume=resume, exclude=[*exclude, *unseen])
        return FusionNet.from_pretrained(weights)

    def variant(
        self, name: str, settings: Mapping[str, Any], compute: Callable[[], Values]
    ) -> Values:
        """Return the values of a variant, see :meth:`Store.get`. Data and budget are settings."""
        settings = {**settings, "data": self.names, "budget": asdict(self.budget)}
        return self.store.get(name, settings, compute)


def changes(config: TrainConfig) -> dict[str, Any]:
    """Return the options that differ from the default."""
    default = TrainConfig().to_dict()
    return {key: value for key, value in config.to_dict().items() if value != default[key]}


def spaced(items: list[T], count: int | None) -> list[T]:
    """Return ``count`` equally spaced items, or all items if there are fewer."""
    if count is None or count >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
