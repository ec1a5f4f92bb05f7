"""Random patches of exposure sets, which depend only on the seed and the number of the batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.data.brackets import Rendering, RenderOptions
from fastmef.data.files import display
from fastmef.data.frames import Frames
from fastmef.data.pairs import Scene
from fastmef.errors import InputError

COUNTS = (3, 3, 4, 5, 7, 9, 12)  # numbers of exposures in a bracket; 3 is drawn twice as often
ENOUGH = 5  # real brackets of so many exposures are also used when a longer one is drawn


@dataclass(frozen=True)
class Patch:
    """The position of a patch, its exposures, and its flip and rotation."""

    scene: int
    frames: tuple[int, ...] | Rendering
    """Indices of the photographs of a bracket, from the darkest, or how they are rendered."""
    top: int
    left: int
    turns: int
    flip: bool


@dataclass
class _Kinds:
    """Indices of the scenes, grouped by the kind of batches that they make."""

    alike: list[int] = field(default_factory=list)
    """Scenes for batches of several patches, which need the same number of exposures."""
    long: dict[int, int] = field(default_factory=dict)
    """Longer brackets → their number of exposures."""
    rendered: list[int] = field(default_factory=list)
    """HDR files."""


class PatchSampler:
    """Draw batches of square patches with flips and 90° rotations.

    Batch n depends on ``(seed, n)`` alone, so a resumed run sees exactly the patches that an
    uninterrupted one would have seen. A photograph that is smaller than a patch is padded with its
    mirror image. Several threads may use a sampler.

    With ``exposures="any"``, half of the batches are patches of scenes with two exposures. The
    others are a single bracket: exposures drawn from a longer scene, or rendered from an HDR file
    (:class:`fastmef.data.brackets.Rendering`). If there are no scenes of one kind, the other kinds
    replace it. With ``"fixed"``, all patches have the same number of exposures.

    Args:
        scenes: the scenes in any order; the exposures of each are sorted by mean brightness.
        patch: side of a patch in pixels.
        batch_size: number of patches in a batch that is not a single bracket.
        seed: seed of the random choices.
        exposures: ``"any"`` or ``"fixed"``.
        frames: for ``"fixed"``, the number of exposures that are drawn from longer scenes or
            rendered from HDR files; 0 uses all exposures of a scene, whose number must be the same
            in all scenes.
        counts: for ``"any"``, numbers of exposures in a bracket. A number that is listed twice is
            drawn twice as often.
        weights: share of the batches from each root, indexed by :attr:`Scene.folder`. If empty, all
            scenes of a kind are drawn equally often.
        reuse: number of consecutive batches that are cut from the same exposures of the same
            scenes, at new positions, so that fewer photographs are decoded if they do not fit into
            memory.
        rendering: options of the rendering of brackets.
        store: the store that decodes the files; by default a new one that keeps all of them.

    Raises:
        InputError: a scene cannot be read, or has too few exposures.
        MissingExtraError: see :func:`fastmef.data.radiance.read_radiance`.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        patch: int,
        batch_size: int,
        seed: int,
        exposures: str = "fixed",
        frames: int = 0,
        counts: Sequence[int] = COUNTS,
        weights: Sequence[float] = (),
        reuse: int = 1,
        rendering: RenderOptions | None = None,
        store: Frames | None = None,
    ) -> None:
        self.patch, self.batch_size, self.seed = patch, batch_size, seed
        self.scenes, self.counts, self.reuse = list(scenes), tuple(counts), reuse
        self.rendering = rendering
        self.store = Frames(sys.maxsize) if store is None else store
        self._surveys = self.store.survey(self.scenes)
        self._mixed = exposures == "any"
        self.exposures: int | str = exposures if self._mixed else frames or _only_count(self.scenes)
        for scene in self.scenes:
            if (missing := missing_exposures(scene, frames)) is not None:
                raise InputError(f"{display(scene.location)}: {missing}")
        self._kinds, self._weights = self._sort(weights)

    def batch(self, number: int) -> Tensor:
        """Return batch ``number``, float32 ``(B, K, 3, patch, patch)`` in [0, 1]."""
        patches = np.stack([self._cut(patch) for patch in self.draw(number)])
        return torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 1, 4, 2, 3)))

    def positions(self, number: int) -> list[tuple[Scene, int, int]]:
        """Return scene, top row and left column of every patch of :meth:`batch`."""
        return [(self.scenes[p.scene], p.top, p.left) for p in self.draw(number)]

    def draw(self, number: int) -> list[Patch]:
        """Return the random choices for the patches of :meth:`batch`."""
        random = np.random.default_rng((self.seed, number))
        chooser = random
        if self.reuse > 1:
            chooser = np.random.default_rng((self.seed, number // self.reuse, self.reuse))
        kinds = self._kinds[0]
        if self._weights is not None:
            kinds = self._kinds[chooser.choice(len(self._kinds), p=self._weights)]
        if self._mixed and (not kinds.alike or chooser.random() < 0.5):
            bracket = self._draw_bracket(kinds, chooser, random)
            if bracket is not None:
                return [bracket]
        chosen = [int(i) for i in chooser.choice(kinds.alike, size=self.batch_size)]
        return [self._draw_position(i, self._frames(i, chooser), random) for i in chosen]

    def _draw_bracket(
        self, kinds: _Kinds, chooser: np.random.Generator, random: np.random.Generator
    ) -> Patch | None:
        """Draw one of the photographed or rendered brackets; ``None`` if there are none."""
        count = int(chooser.choice(self.counts))
        photographed = [i for i, most in kinds.long.items() if most >= min(count, ENOUGH)]
        if not kinds.rendered:
            photographed = photographed or list(kinds.long)
        if photographed and (not kinds.rendered or chooser.random() < 0.5):
            index = int(chooser.choice(photographed))
            most = kinds.long[index]
            return self._draw_position(index, _thin(most, min(count, most), chooser), random)
        if not kinds.rendered:
            return None
        rendering = Rendering.draw(count, random, self.rendering)
        return self._draw_position(int(chooser.choice(kinds.rendered)), rendering, random)

    def _frames(self, index: int, random: np.random.Generator) -> tuple[int, ...] | Rendering:
        """Draw the exposures of a scene for a batch of several patches."""
        most = len(self.scenes[index].images)
        count = most if isinstance(self.exposures, str) else self.exposures
        if self.scenes[index].is_radiance:
            return Rendering.draw(count, random, self.rendering)
        return tuple(range(most)) if count == most else _thin(most, count, random)

    def _draw_position(
        self, index: int, frames: tuple[int, ...] | Rendering, random: np.random.Generator
    ) -> Patch:
        """Draw position, rotation and flip of a patch."""
        survey = self._surveys[index]
        top = int(random.integers(max(0, survey.height - self.patch) + 1))
        left = int(random.integers(max(0, survey.width - self.patch) + 1))
        return Patch(index, frames, top, left, int(random.integers(4)), bool(random.integers(2)))

    def _cut(self, patch: Patch) -> NDArray[np.float32]:
        """Return the exposures of a patch, ``(K, patch, patch, 3)`` in [0, 1]."""
        side, paths = self.patch, self._surveys[patch.scene].paths
        area = slice(patch.top, patch.top + side), slice(patch.left, patch.left + side)
        if isinstance(patch.frames, Rendering):
            cut = patch.frames.render(self.store.read(paths[0])[area])
        else:
            levels = np.stack([self.store.read(paths[k])[area] for k in patch.frames])
            cut = levels / np.float32(255)
        missing = [(0, side - n) for n in cut.shape[1:3]]
        if any(more for _, more in missing):
            cut = np.pad(cut, ((0, 0), *missing, (0, 0)), mode="symmetric")
        cut = np.rot90(cut, patch.turns, axes=(1, 2))
        return cut[:, :, ::-1] if patch.flip else cut

    def _sort(self, weights: Sequence[float]) -> tuple[list[_Kinds], NDArray[np.float64] | None]:
        """Return the scenes by kind, and the shares of the roots.

        If roots have weights, each has an entry of its own; otherwise all scenes are in one.
        """
        roots = sorted({scene.folder for scene in self.scenes}) if weights else [0]
        kinds = {root: _Kinds() for root in roots}
        for index, scene in enumerate(self.scenes):
            of_root = kinds[scene.folder if weights else 0]
            if self._mixed and scene.is_radiance:
                of_root.rendered.append(index)
            elif self._mixed and len(scene.images) > 2:
                of_root.long[index] = len(scene.images)
            else:
                of_root.alike.append(index)
        if not weights:
            return list(kinds.values()), None
        shares = np.array([weights[root] for root in roots], dtype=np.float64)
        if not shares.sum() > 0:
            raise InputError("every folder with scenes for training has the weight 0")
        return list(kinds.values()), shares / shares.sum()


def missing_exposures(scene: Scene, count: int) -> str | None:
    """Say that a scene has fewer than ``count`` exposures; return ``None`` if it has enough."""
    if scene.is_radiance or len(scene.images) >= count:
        return None
    return f"{len(scene.images)} exposures, {count} are drawn from each scene"


def _only_count(scenes: Sequence[Scene]) -> int:
    """Return the number of exposures of the scenes, which must be the same for all."""
    counts = sorted({0 if scene.is_radiance else len(scene.images) for scene in scenes})
    if len(counts) != 1 or counts == [0]:
        raise InputError(
            f"every training scene needs the same number of exposures, got {counts}; a number of"
            " frames thins longer ones"
        )
    return counts[0]


def _thin(most: int, count: int, random: np.random.Generator) -> tuple[int, ...]:
    """Draw the indices of ``count`` of ``most`` exposures, ascending."""
    return tuple(sorted(int(k) for k in random.choice(most, count, replace=False)))
