"""Prepare the photographs of an experiment: reduced copies of pairs, and views of HDR files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from fastmef.data.images import read_image, write_image
from fastmef.data.pairs import Scene, find_scenes
from fastmef.data.panorama import perspective_view
from fastmef.data.radiance import RADIANCE_ENDINGS, read_radiance, reduce_area
from fastmef.data.render import auto_exposures
from fastmef.errors import InputError

HELD_OUT_HDR = (
    "ilm_stilllife.exr",
    "leadenhall_market.hdr",
    "narrow_moonlit_road.hdr",
    "vestibule.hdr",
)
"""HDR files that the bundled weights were not trained on, neither as pairs nor as brackets."""

FILES_PER_TEST = 4
"""If a folder has none of these files, every fourth HDR file is held back instead."""

VIEWS = 4
"""Number of perspective views around a panorama, which is a file twice as wide as high."""

DEFAULT_SIDE = 1024
"""Longer side of views in pixels if photographs are not reduced."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """A scene of known radiance."""

    name: str
    file: str
    radiance: NDArray[np.float32]
    """``(H, W, 3)``, linear, not negative."""


def reduced(folder: Path, target: Path, side: int | None) -> Path:
    """Return a folder of the same scenes with no side longer than ``side`` pixels.

    The copies are PNGs in ``target``. A scene appears complete or not at all.
    """
    if side is None:
        return folder
    for scene in find_scenes(folder):
        if not (target / scene.name).is_dir():
            pixels = {path.stem: _fitted(read_image(path).pixels, side) for path in scene.images}
            write_scene(target, scene.name, pixels)
    return target


def write_scene(folder: Path, name: str, exposures: Mapping[str, Image]) -> None:
    """Write exposures, given by the stems of their file names, unless the scene exists."""
    if (folder / name).is_dir():
        return
    partial = folder / f".{name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for stem, pixels in exposures.items():
        write_image(partial / f"{stem}.png", pixels)
    os.replace(partial, folder / name)


def frames(scene: Scene) -> list[Image]:
    """Return the exposures of a scene from dark to bright."""
    pixels = [read_image(path).pixels for path in scene.images]
    return sorted(pixels, key=lambda image: float(image.mean()))


def evs_of_gap(radiance: NDArray[np.float32], gap: float) -> tuple[float, float]:
    """Return two exposure values ``gap`` stops apart.

    They lie around the middle of those that :func:`fastmef.data.render.auto_exposures` chooses.
    """
    middle = sum(auto_exposures(radiance)) / 2
    return middle - gap / 2, middle + gap / 2


def views(folder: Path, side: int | None) -> tuple[list[View], list[View]]:
    """Return ``(training, test)`` views of the HDR files in a folder.

    Raises:
        InputError: there are fewer than two HDR files.
        MissingExtraError: see :func:`fastmef.data.radiance.read_radiance`.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in RADIANCE_ENDINGS)
    held_out = {path.name for path in found} & set(HELD_OUT_HDR)
    held_out = held_out or {path.name for path in found[::FILES_PER_TEST]}
    parts = tuple(
        [view for path in found if (path.name in held_out) == test for view in _views(path, side)]
        for test in (False, True)
    )
    if not all(parts):
        raise InputError(f"{folder.name}: two or more HDR files (.hdr, .exr) are needed")
    return parts[0], parts[1]


def _views(path: Path, side: int | None) -> list[View]:
    """Return four views around a panorama, or the image itself if it is none."""
    side = side or DEFAULT_SIDE
    radiance = read_radiance(path).clip(0)
    height, width = radiance.shape[:2]
    if width != 2 * height:
        scale = min(side / max(height, width), 1)
        small = reduce_area(radiance, round(height * scale), round(width * scale))
        return [View(path.stem, path.name, small)]
    # A view covers a quarter turn. More than half the columns of a panorama would add no detail.
    columns = min(side, width // 2)
    size = (columns, round(columns * 2 / 3))
    return [
        View(
            f"{path.stem}_{yaw:03d}",
            path.name,
            np.float32(perspective_view(radiance, yaw, 0, 90, *size)),
        )
        for yaw in range(0, 360, 360 // VIEWS)
    ]


def _fitted(pixels: Image, side: int) -> Image:
    """Reduce an image so that no side is longer than ``side`` pixels; never enlarge it."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (round(width * scale), round(height * scale))
    return np.array(Picture.fromarray(pixels).resize(size, Picture.Resampling.BOX))
