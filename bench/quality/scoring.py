"""Fuse a bracket with every method and score the 8-bit results; use the cache where possible."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.quality import methods
from bench.quality.brackets import Bracket, Image
from bench.quality.cache import Cache
from fastmef.inference.simple import as_tensor
from fastmef.metrics import SceneScores


@dataclass(frozen=True)
class Settings:
    """The settings that every process needs."""

    data: Path
    cache: Path
    models: dict[str, str]
    """Label → name or file of the weights; their results are always computed again."""

    cached: tuple[str, ...]
    """Labels of models of earlier runs, whose results are only read."""

    @property
    def labels(self) -> list[str]:
        return [*methods.baselines(), *self.cached, *self.models]


def forget(settings: Settings, bracket: Bracket) -> None:
    """Remove the models' results of an earlier run, because weights and code may have changed."""
    cache = Cache(settings.cache, bracket)
    for label in settings.models:
        cache.remove(label)


def fuse_bracket(settings: Settings, bracket: Bracket) -> None:
    """Compute and store the pictures that the cache lacks."""
    _fuse(settings, bracket, partial(bracket.frames, settings.data))


def score_bracket(settings: Settings, bracket: Bracket) -> dict[str, dict[str, float]]:
    """Return label → scores of every method; frames are read once, and only if needed."""
    frames = functools.cache(partial(bracket.frames, settings.data))
    _fuse(settings, bracket, frames)
    cache = Cache(settings.cache, bracket)
    lacking = [label for label in settings.labels if cache.scores(label) is None]
    if lacking:
        scene = SceneScores(as_tensor(*frames()).unsqueeze(0))
        for label in lacking:
            image = cache.image(label)
            assert image is not None  # it has just been stored
            cache.put_scores(label, scene.score(as_tensor(image)))
    return {label: cache.scores(label) or {} for label in settings.labels}


def _fuse(settings: Settings, bracket: Bracket, frames: Callable[[], list[Image]]) -> None:
    cache = Cache(settings.cache, bracket)
    lacking = [label for label in settings.labels if cache.image(label) is None]
    if unknown := set(lacking) & set(settings.cached):
        raise SystemExit(f"{bracket.name}: the cache has no result of {', '.join(unknown)}")
    if lacking:
        fuse = methods.baselines() | {x: methods.model(y) for x, y in settings.models.items()}
        given = frames()
        for label in lacking:
            cache.put_image(label, fuse[label](given))
