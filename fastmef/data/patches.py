"""Random patches of exposure sets, a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.data.brackets import Rendering
from fastmef.data.images import read_image
from fastmef.data.pairs import Scene
from fastmef.data.radiance import read_radiance
from fastmef.errors import InputError

COUNTS = (3, 3, 4, 5, 7, 9, 12)  # numbers of exposures in a bracket, by how often they are drawn
ENOUGH = 5  # exposures of a real bracket that may stand for a longer one
MAX_RADIANCE_PIXELS = 1_000_000  # rendering does not need more than a few patches


@dataclass(frozen=True)
class Patch:
    """Where a patch is cut, and what is done with it."""

    scene: int
    frames: tuple[int, ...] | Rendering
    """Which photographs of a bracket are used, or how they are rendered."""
    top: int
    left: int
    turns: int
    flip: bool


class PatchSampler:
    """Draws batches of square patches with flips and 90° rotations.

    The batch of step s depends on ``(seed, s)`` alone, so a resumed run sees exactly the patches
    an uninterrupted one would have seen. Decoded photographs stay in memory as 8-bit, radiance of
    at most a megapixel as float32. Where a photograph is smaller than a patch it is continued by
    its mirror image.

    With ``exposures="any"`` half of the batches are patches of scenes with two exposures, the
    others are a single bracket of 3 to 12: exposures drawn from a longer scene, or rendered from an
    HDR file (:class:`fastmef.data.brackets.Rendering`). Where one of these kinds is missing the
    others take its place.

    Args:
        scenes: in any order; the exposures of each are sorted by mean brightness. For ``"fixed"``
            all have the same number of exposures, and none is an HDR file.
        patch: side in pixels.
        batch_size: patches in a batch, if they are not a single bracket.
        seed: of the random choices.
        exposures: ``"any"`` or ``"fixed"``.

    Raises:
        InputError: a scene cannot be read, or does not fit the description above.
        MissingExtraError: see :func:`fastmef.data.radiance.read_radiance`.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        patch: int,
        batch_size: int,
        seed: int,
        exposures: str = "fixed",
    ) -> None:
        self.patch, self.batch_size, self.seed = patch, batch_size, seed
        self.scenes = list(scenes)
        self.images: list[NDArray[Any]] = [
            _radiance(scene) if scene.is_radiance else _photographs(scene) for scene in scenes
        ]
        indices = range(len(self.scenes))
        self._rendered = [i for i in indices if self.scenes[i].is_radiance]
        counts = {i: len(self.images[i]) for i in indices if i not in self._rendered}
        if exposures == "fixed" and (self._rendered or len({*counts.values()}) != 1):
            raise InputError(
                "every training scene needs the same number of exposures, "
                f"got {sorted({*counts.values()})}"
            )
        self._mixed = exposures == "any"
        self.exposures: int | str = exposures if self._mixed else next(iter(counts.values()))
        self._alike = [i for i in counts if counts[i] == 2 or not self._mixed]
        self._long = {i: counts[i] for i in counts if i not in self._alike}

    def batch(self, step: int) -> Tensor:
        """``(B, K, 3, patch, patch)`` float32 in [0, 1]."""
        patches = [self._cut(patch) for patch in self._draw(step)]
        batch = torch.from_numpy(np.stack(patches)).permute(0, 1, 4, 2, 3)
        return batch.float().div_(255).contiguous()

    def places(self, step: int) -> list[tuple[Scene, int, int]]:
        """Return scene, top row and left column of every patch of :meth:`batch`."""
        return [(self.scenes[p.scene], p.top, p.left) for p in self._draw(step)]

    def _draw(self, step: int) -> list[Patch]:
        random = np.random.default_rng((self.seed, step))
        if self._mixed and (not self._alike or random.random() < 0.5):
            bracket = self._draw_bracket(random)
            if bracket is not None:
                return [bracket]
        chosen = random.choice(self._alike, size=self.batch_size)
        return [self._place(int(i), tuple(range(len(self.images[i]))), random) for i in chosen]

    def _draw_bracket(self, random: np.random.Generator) -> Patch | None:
        """Draw one of the photographed or rendered brackets; ``None`` if there are none."""
        count = int(random.choice(COUNTS))
        photographed = [i for i, most in self._long.items() if most >= min(count, ENOUGH)]
        if not self._rendered:
            photographed = photographed or list(self._long)
        if photographed and (not self._rendered or random.random() < 0.5):
            index = int(random.choice(photographed))
            most = self._long[index]
            frames = random.choice(most, min(count, most), replace=False)
            return self._place(index, tuple(sorted(int(k) for k in frames)), random)
        if not self._rendered:
            return None
        rendering = Rendering.draw(count, random)
        return self._place(int(random.choice(self._rendered)), rendering, random)

    def _place(
        self, index: int, frames: tuple[int, ...] | Rendering, random: np.random.Generator
    ) -> Patch:
        rows, columns = self.images[index].shape[-3:-1]
        top = int(random.integers(max(0, rows - self.patch) + 1))
        left = int(random.integers(max(0, columns - self.patch) + 1))
        return Patch(index, frames, top, left, int(random.integers(4)), bool(random.integers(2)))

    def _cut(self, patch: Patch) -> NDArray[np.uint8]:
        """``(K, patch, patch, 3)``."""
        images, side = self.images[patch.scene], self.patch
        rows, columns = slice(patch.top, patch.top + side), slice(patch.left, patch.left + side)
        if isinstance(patch.frames, Rendering):
            cut = patch.frames.render(images[rows, columns])
        else:
            cut = images[list(patch.frames), rows, columns]
        missing = [(0, side - n) for n in cut.shape[1:3]]
        cut = np.pad(cut, ((0, 0), *missing, (0, 0)), mode="symmetric")
        cut = np.rot90(cut, patch.turns, axes=(1, 2))
        return cut[:, :, ::-1] if patch.flip else cut


def _photographs(scene: Scene) -> NDArray[np.uint8]:
    """``(K, H, W, 3)`` from dark to bright."""
    photos = [read_image(path) for path in scene.images]
    first = photos[0]
    for photo in photos:
        if photo.pixels.shape != first.pixels.shape:
            raise InputError(
                f"{photo.path}: is {_size(photo.pixels)}, but {first.path} is "
                f"{_size(first.pixels)}; the exposures of a scene must have one size"
            )
    # As fuse() does: what a network learns is the order from dark to bright, not that of the names.
    photos.sort(key=lambda photo: float(photo.pixels.mean()))
    return np.stack([photo.pixels for photo in photos])


def _radiance(scene: Scene) -> NDArray[np.float32]:
    """``(H, W, 3)``, not negative."""
    return read_radiance(scene.images[0], MAX_RADIANCE_PIXELS).clip(0)


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
