"""Random patches of exposure sets, a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.data.images import read_image
from fastmef.data.pairs import Scene
from fastmef.errors import InputError


class PatchSampler:
    """Draws batches of square patches with flips and 90° rotations.

    The batch of step s depends on ``(seed, s)`` alone, so a resumed run sees exactly the patches
    an uninterrupted one would have seen. Decoded photographs stay in memory as 8-bit.

    Args:
        scenes: exposure sets of equal length, in any order; they are sorted by mean brightness.
        patch: side in pixels; every photograph must be at least that large.
        batch_size: patches in a batch.
        seed: of the random choices.
    """

    def __init__(self, scenes: Sequence[Scene], patch: int, batch_size: int, seed: int) -> None:
        self.patch, self.batch_size, self.seed = patch, batch_size, seed
        self.scenes = list(scenes)
        self.stacks = [_load(scene, patch) for scene in scenes]
        counts = {len(stack) for stack in self.stacks}
        if len(counts) != 1:
            raise InputError(
                f"every training scene needs the same number of exposures, got {sorted(counts)}"
            )
        self.exposures = counts.pop()

    def batch(self, step: int) -> Tensor:
        """``(batch_size, K, 3, patch, patch)`` float32 in [0, 1]."""
        patches = []
        for index, top, left, turns, flip in self._draw(step):
            cut = self.stacks[index][:, top : top + self.patch, left : left + self.patch]
            cut = np.rot90(cut, turns, axes=(1, 2))
            if flip:
                cut = cut[:, :, ::-1]
            patches.append(cut)
        batch = torch.from_numpy(np.stack(patches)).permute(0, 1, 4, 2, 3)
        return batch.float().div_(255).contiguous()

    def places(self, step: int) -> list[tuple[Scene, int, int]]:
        """Return scene, top row and left column of every patch of :meth:`batch`."""
        return [(self.scenes[index], top, left) for index, top, left, *_ in self._draw(step)]

    def _draw(self, step: int) -> Iterator[tuple[int, int, int, int, bool]]:
        """Yield index of the scene, top row, left column, quarter turns and flip of each patch."""
        random = np.random.default_rng((self.seed, step))
        for index in random.integers(len(self.stacks), size=self.batch_size):
            _, rows, columns, _ = self.stacks[index].shape
            top = int(random.integers(rows - self.patch + 1))
            left = int(random.integers(columns - self.patch + 1))
            yield int(index), top, left, int(random.integers(4)), bool(random.integers(2))


def _load(scene: Scene, patch: int) -> NDArray[np.uint8]:
    photos = [read_image(path) for path in scene.images]
    first = photos[0]
    for photo in photos:
        if photo.pixels.shape != first.pixels.shape:
            raise InputError(
                f"{photo.path}: is {_size(photo.pixels)}, but {first.path} is "
                f"{_size(first.pixels)}; the exposures of a scene must have one size"
            )
        if min(photo.pixels.shape[:2]) < patch:
            raise InputError(
                f"{photo.path}: is {_size(photo.pixels)}, smaller than the {patch}x{patch} patches"
            )
    # As fuse() does: what a network learns is the order from dark to bright, not that of the names.
    photos.sort(key=lambda photo: float(photo.pixels.mean()))
    return np.stack([photo.pixels for photo in photos])


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
