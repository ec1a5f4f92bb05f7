"""The brackets for the comparison: validation pairs, and scenes held back from training.

The held-out stacks are named here, the held-out HDR files in fastmef.experiments.photographs. The
bundled weights must be trained without these scenes, including pairs of the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from examples.render_exposures import fitted
from fastmef.data.images import read_image
from fastmef.data.pairs import find_scenes, split_scenes
from fastmef.data.radiance import read_radiance
from fastmef.data.render import exposure_range, render_exposures
from fastmef.experiments.photographs import HELD_OUT_HDR

HELD_OUT_STACKS = ("belgium_house", "mpi_office", "temple_night")
COUNTS = (3, 5, 9, 15, 30)
RENDERED = 30  # number of frames that are rendered from an HDR file before thinning
LARGEST_SIDE = 1024  # largest side of rendered frames in pixels

Image = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class Bracket:
    """``count`` frames of a scene, equally spaced from the darkest to the brightest."""

    folder: str
    """Folder in the data folder: ``pairs``, ``stacks`` or ``hdr``."""

    scene: str
    """Name of a folder of photographs, or of an HDR file."""

    count: int

    @property
    def name(self) -> str:
        return f"{self.scene}/{self.count}"

    def frames(self, data: Path) -> list[Image]:
        """Return ``(H, W, 3)`` RGB, from dark to bright."""
        source = data / self.folder / self.scene
        if source.is_dir():
            return thin(_photographs(source), self.count)
        radiance = _radiance(source)
        return render_exposures(radiance, thin(exposure_values(radiance, RENDERED), self.count))


def validation_pairs(data: Path) -> list[Bracket]:
    """Return the pairs that are not trained on: every 8th scene."""
    scenes = split_scenes(find_scenes(data / "pairs"))[1]
    return [Bracket("pairs", scene.name, len(scene.images)) for scene in scenes]


def stacks(data: Path) -> list[Bracket]:
    """Return all stacks, held out or not, with all their frames."""
    scenes = find_scenes(data / "stacks")
    return [Bracket("stacks", scene.name, len(scene.images)) for scene in scenes]


def held_out(data: Path) -> list[Bracket]:
    """Return the held-out stacks and rendered brackets, with all frames and thinned."""
    whole = [stack for stack in stacks(data) if stack.scene in HELD_OUT_STACKS]
    whole += [Bracket("hdr", name, RENDERED) for name in HELD_OUT_HDR]
    return [
        Bracket(bracket.folder, bracket.scene, count)
        for bracket in whole
        for count in sorted({min(count, bracket.count) for count in COUNTS} | {bracket.count})
    ]


def thin(frames: Sequence[T], count: int) -> list[T]:
    """Return ``count`` equally spaced frames with both ends; all frames if there are fewer."""
    if count >= len(frames):
        return list(frames)
    return [frames[k] for k in np.linspace(0, len(frames) - 1, count).round().astype(int)]


def exposure_values(radiance: NDArray[np.floating], count: int) -> list[float]:
    """Return equally spaced exposure values in stops that cover the radiance ``(H, W, 3)``."""
    return np.linspace(*exposure_range(radiance), count).tolist()


def _photographs(folder: Path) -> list[Image]:
    """Return all frames of a scene sorted by brightness, which names do not always follow."""
    (scene,) = (scene for scene in find_scenes(folder.parent) if scene.name == folder.name)
    frames = [read_image(path).pixels for path in scene.images]
    return sorted(frames, key=lambda frame: float(frame.mean()))


def _radiance(file: Path) -> NDArray[np.float32]:
    """Return linear light ``(H, W, 3)`` of an HDR file, reduced to :data:`LARGEST_SIDE`."""
    return fitted(read_radiance(file), LARGEST_SIDE, LARGEST_SIDE)
