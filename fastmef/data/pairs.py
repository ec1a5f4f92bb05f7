"""Find exposure sets in folders: one folder per scene, with its exposures from dark to bright."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from fastmef.data.damage import Fault
from fastmef.data.files import display, reason
from fastmef.data.radiance import RADIANCE_ENDINGS
from fastmef.errors import InputError

VALIDATION_SHARE = Fraction(1, 8)
LABELS = "label"

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
LAYOUT = "expected one folder a scene with under.jpg and over.jpg, or two or more images"


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not used, and the reason."""

    path: Path
    reason: str
    faulty: bool = False
    """Whether it looks like a scene but cannot be used."""

    def __str__(self) -> str:
        return f"{display(self.path)}: {self.reason}"


@dataclass(frozen=True)
class Scene:
    """The exposures of one scene, or one HDR file that they are rendered from."""

    name: str
    images: tuple[Path, ...]
    """Files from under- to over-exposed."""
    folder: int = 0
    """Position of the scene's folder among those of a training run."""

    @property
    def location(self) -> Path:
        """Return the HDR file, or the folder of the first exposure."""
        return self.images[0] if self.is_radiance else self.images[0].parent

    @property
    def is_radiance(self) -> bool:
        """Return whether the scene is an HDR file."""
        return self.images[0].suffix.lower() in RADIANCE_ENDINGS


def find_scenes(folder: str | os.PathLike[str]) -> list[Scene]:
    """Return the scenes in ``folder``, sorted by name.

    Every subfolder with images (.jpg .jpeg .png .tif .tiff .webp) is a scene. Its exposures are
    ``under.*`` and ``over.*`` if both exist, otherwise all its images in the order of their names,
    which must be from dark to bright. Hidden files and folders are ignored, and so is a folder
    ``Label``, which the data set SICE has. No image is opened.

    Raises:
        InputError: the folder does not exist, cannot be read or holds no scene; or a scene has a
            single image, or two images that are both named under or over.
    """
    found = scan_folder(Path(folder))
    if found.faulty:
        raise InputError(str(found.faulty[0]))
    if not found.scenes:
        raise InputError(f"{display(folder)}: no scene in this folder; {LAYOUT}")
    return found.scenes


def split_scenes(
    scenes: Sequence[Scene], share: Fraction = VALIDATION_SHARE
) -> tuple[list[Scene], list[Scene]]:
    """Return ``(training, validation)``: by default, scenes 0, 8, 16, … are for validation.

    Args:
        scenes: scenes sorted by name.
        share: share of the scenes for validation, which are taken at even distances.
    """
    training: list[Scene] = []
    validation: list[Scene] = []
    for i, scene in enumerate(scenes):
        chosen = math.ceil((i + 1) * share) > math.ceil(i * share)
        (validation if chosen else training).append(scene)
    return training, validation


class Folder(NamedTuple):
    """The content of a folder of scenes."""

    scenes: list[Scene]
    radiances: list[Scene]
    """HDR files, each of which is a scene."""
    skipped: list[Skipped]
    """Files and folders that are not scenes."""
    faulty: list[Skipped]
    """Folders that look like scenes but cannot be used."""


def scan_folder(root: Path) -> Folder:
    """Return the content of a folder without opening a file. Hidden files are ignored.

    Raises:
        InputError: the folder does not exist or cannot be read.
    """
    _check_folder(root)
    found = Folder([], [], [], [])
    for entry in _entries(root):
        mode = _mode(entry)
        if stat.S_ISREG(mode) and entry.suffix.lower() in RADIANCE_ENDINGS:
            found.radiances.append(Scene(entry.name, (entry,)))
        elif not stat.S_ISDIR(mode):
            found.skipped.append(Skipped(entry, "neither the folder of a scene nor an HDR file"))
        elif entry.name.lower() == LABELS:
            found.skipped.append(Skipped(entry, "the fused images that come with SICE"))
        elif not (images := _images(entry, _ENDINGS)):
            found.skipped.append(Skipped(entry, "a folder without images"))
        else:
            try:
                scene = Scene(entry.name, _ordered(images))
            except Fault as fault:
                found.faulty.append(Skipped(entry, str(fault), faulty=True))
                continue
            found.scenes.append(scene)
            others = (image for image in images if image not in scene.images)
            found.skipped.extend(Skipped(image, "beside under and over") for image in others)
    return found


def _check_folder(folder: Path) -> None:
    """Check that a path is a folder."""
    mode = _mode(folder)
    if not stat.S_ISDIR(mode):
        problem = "a file, not a folder" if mode else "no such folder"
        raise InputError(f"{display(folder)}: {problem}; {LAYOUT}")


def _entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder sorted by name, without hidden ones."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{display(folder)}: this folder cannot be read") from error


def _images(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the regular files with one of these endings."""
    images = [path for path in _entries(folder) if path.suffix.lower() in endings]
    return [path for path in images if stat.S_ISREG(_mode(path))]


def _mode(path: Path) -> int:
    """Return type and permissions of a file, after following links; 0 if it does not exist."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:
        # Ignoring the error would drop a scene silently.
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error


def _ordered(images: list[Path]) -> tuple[Path, ...]:
    """Return the exposures of a scene from dark to bright.

    Raises:
        Fault: there is a single image, or two are both named under or over.
    """
    named = {
        name: [path for path in images if path.stem.lower() == name] for name in ("under", "over")
    }
    for name, paths in named.items():
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            raise Fault(f"one image may be named {name}, got {listed}")
    if all(named.values()):
        return (*named["under"], *named["over"])
    if len(images) < 2:
        raise Fault(f"a single image, {images[0].name}; a scene needs two or more")
    return tuple(images)
