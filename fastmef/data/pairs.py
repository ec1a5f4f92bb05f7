"""Folders of exposure sets: one folder a scene, its exposures from dark to bright."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastmef.data.files import display, reason
from fastmef.data.radiance import RADIANCE_ENDINGS
from fastmef.errors import InputError

VALIDATION_STEP = 8

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_LAYOUT = "expected one folder a scene with under.jpg and over.jpg, or two or more images"


@dataclass(frozen=True)
class Scene:
    """The exposures of one scene, or one HDR file that they are rendered from."""

    name: str
    images: tuple[Path, ...]
    """From under- to over-exposed."""
    folder: int = 0
    """Position of the scene's folder among those of a training run."""

    @property
    def is_radiance(self) -> bool:
        """Return whether the scene is an HDR file."""
        return self.images[0].suffix.lower() in RADIANCE_ENDINGS


def find_scenes(folder: str | os.PathLike[str]) -> list[Scene]:
    """Return the scenes in ``folder``, sorted by name.

    Every subfolder that holds images (.jpg .jpeg .png .tif .tiff .webp) is a scene. Its exposures
    are ``under.*`` and ``over.*`` where both are there, else all its images in the order of their
    names, which has to be from dark to bright. Hidden files and folders are passed over. No image
    is opened.

    Raises:
        InputError: the folder does not exist, cannot be read or holds no scene; a scene has a
            single image, or two that are both named under or over.
    """
    scenes = _scenes(Path(folder))
    if not scenes:
        raise InputError(f"{display(folder)}: no scene in this folder; {_LAYOUT}")
    return scenes


def find_training_scenes(
    folders: Sequence[str | os.PathLike[str]], exclude: Collection[str] = (), hdr: bool = True
) -> tuple[list[Scene], list[Scene]]:
    """Return ``(training, validation)`` scenes of several folders.

    Every 8th scene of the first folder is for validation. Excluded scenes are left out after they
    have been counted, so that excluding one does not change which others are for validation.

    Args:
        folders: the first holds scenes as :func:`find_scenes` describes them, the others hold
            scenes, HDR files (.hdr .exr), or both.
        exclude: names of scenes and HDR files, such as ``"desk"`` and ``"sunset.hdr"``, that take
            no part, in whichever folder they lie.
        hdr: use the HDR files of all folders.

    Raises:
        InputError: see :func:`find_scenes`; a folder is given twice, a name in ``exclude`` is not
            found, or nothing is left for training or for validation.
    """
    resolved = [os.path.realpath(folder) for folder in folders]
    for i, folder in enumerate(folders):
        if resolved[i] in resolved[:i]:
            raise InputError(f"{display(folder)}: this folder is given twice")
    first, *others = folders
    training, validation = split_scenes(find_scenes(first))
    radiances = [_radiances(Path(folder)) for folder in folders]
    for position, folder in enumerate(others, 1):
        scenes = _scenes(Path(folder))
        if not scenes and not radiances[position]:
            raise InputError(f"{display(folder)}: no scene and no HDR file; {_LAYOUT}")
        training += [replace(scene, folder=position) for scene in scenes]
    files = [
        replace(scene, folder=position)
        for position, found in enumerate(radiances)
        for scene in found
    ]
    unknown = sorted({*exclude} - {scene.name for scene in (*training, *validation, *files)})
    if unknown:
        raise InputError(f"cannot exclude {display(unknown[0])}: no such scene or HDR file")
    if hdr:
        training += files
    training, validation = (
        [scene for scene in scenes if scene.name not in exclude]
        for scenes in (training, validation)
    )
    if not validation:
        raise InputError(f"{display(first)}: every scene for validation is excluded")
    if not training:
        raise InputError(
            f"{display(first)}: no scene is left for training; every 8th is for validation"
        )
    return training, validation


def split_scenes(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Return ``(training, validation)``: scenes 0, 8, 16, … of a sorted list are for validation."""
    training = [scene for i, scene in enumerate(scenes) if i % VALIDATION_STEP]
    return training, list(scenes[::VALIDATION_STEP])


def _scenes(root: Path) -> list[Scene]:
    """Return the scenes in a folder; there may be none."""
    _check_folder(root)
    return [
        Scene(entry.name, _ordered(entry, images))
        for entry in _entries(root)
        if stat.S_ISDIR(_mode(entry)) and (images := _images(entry, _ENDINGS))
    ]


def _radiances(root: Path) -> list[Scene]:
    """Return the HDR files in a folder, each as a scene of one file."""
    _check_folder(root)
    return [Scene(path.name, (path,)) for path in _images(root, RADIANCE_ENDINGS)]


def _check_folder(folder: Path) -> None:
    """Refuse what is no folder."""
    mode = _mode(folder)
    if not stat.S_ISDIR(mode):
        problem = "a file, not a folder" if mode else "no such folder"
        raise InputError(f"{display(folder)}: {problem}; {_LAYOUT}")


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, hidden files left out, by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{display(folder)}: this folder cannot be read") from error


def _images(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the regular files with one of these endings."""
    images = [path for path in _entries(folder) if path.suffix.lower() in endings]
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
    """Return the exposures of a scene from dark to bright."""
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
