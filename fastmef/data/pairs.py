"""Folders of exposure sets: one folder a scene, its exposures from dark to bright."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastmef.data.files import display, reason
from fastmef.errors import InputError

VALIDATION_STEP = 8

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_LAYOUT = "expected one folder a scene with under.jpg and over.jpg, or two or more images"


@dataclass(frozen=True)
class Scene:
    """The exposures of one scene."""

    name: str
    images: tuple[Path, ...]
    """From under- to over-exposed."""


def find_scenes(folder: str | os.PathLike[str]) -> list[Scene]:
    """The scenes in ``folder``, sorted by name.

    Every subfolder that holds images (.jpg .jpeg .png .tif .tiff .webp) is a scene. Its exposures
    are ``under.*`` and ``over.*`` where both are there, else all its images in the order of their
    names, which has to be from dark to bright. Hidden files and folders are passed over. No image
    is opened.

    Raises:
        InputError: the folder does not exist, cannot be read or holds no scene; a scene has a
            single image, or two that are both named under or over.
    """
    root = Path(folder)
    mode = _mode(root)
    if not stat.S_ISDIR(mode):
        problem = "a file, not a folder" if mode else "no such folder"
        raise InputError(f"{display(folder)}: {problem}; {_LAYOUT}")
    scenes = []
    for entry in _entries(root):
        if stat.S_ISDIR(_mode(entry)) and (images := _images(entry)):
            scenes.append(Scene(entry.name, _ordered(entry, images)))
    if not scenes:
        raise InputError(f"{display(folder)}: no scene in this folder; {_LAYOUT}")
    return scenes


def split_scenes(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene]]:
    """``(training, validation)``: scenes 0, 8, 16, … of a sorted list are for validation."""
    training = [scene for i, scene in enumerate(scenes) if i % VALIDATION_STEP]
    return training, list(scenes[::VALIDATION_STEP])


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{display(folder)}: this folder cannot be read") from error


def _images(folder: Path) -> list[Path]:
    images = [path for path in _entries(folder) if path.suffix.lower() in _ENDINGS]
    return [path for path in images if stat.S_ISREG(_mode(path))]


def _mode(path: Path) -> int:
    """Return the type and permissions of what a path leads to, 0 if that is nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:
        # Not overlooked: a scene would be missing without a word.
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error


def _ordered(folder: Path, images: list[Path]) -> tuple[Path, ...]:
    named = {
        name: [path for path in images if path.stem.lower() == name] for name in ("under", "over")
    }
    for name, paths in named.items():
        if len(paths) > 1:
            listed = ", ".join(path.name for path in paths)
            raise InputError(f"{display(folder)}: one image may be named {name}, got {listed}")
    if all(named.values()):
        return (*named["under"], *named["over"])
    if len(images) < 2:
        raise InputError(
            f"{display(folder)}: a single image, {images[0].name}; a scene needs two or more"
        )
    return tuple(images)
