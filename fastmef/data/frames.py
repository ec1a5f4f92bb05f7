"""Survey the photographs of many scenes once, and decode them again if memory is too small."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastmef.data.cache import Cache
from fastmef.data.files import display, reason
from fastmef.data.images import read_image
from fastmef.data.pairs import Scene
from fastmef.data.radiance import read_radiance
from fastmef.errors import FastmefError, InputError

MAX_RADIANCE_PIXELS = 1_000_000  # HDR files are reduced to this size: a few patches of a scene

_MOST_THREADS = 16  # each holds a decoded photograph


@dataclass(frozen=True)
class Survey:
    """The order and size of the exposures of a scene."""

    paths: tuple[Path, ...]
    """Files from dark to bright by mean brightness. ``fuse`` sorts exposures in the same way, so a
    network must learn this order, not that of the names."""
    height: int
    width: int


@dataclass(frozen=True)
class FileSurvey:
    """Size, mean brightness and state of a file."""

    height: int
    width: int
    mean: float
    """Mean of the 8-bit levels, or of the radiance."""
    state: tuple[int, int]
    """Size in bytes and time of the last change in nanoseconds, read before decoding."""


Seen = dict[Path, "FileSurvey | FastmefError"]


class Frames:
    """A store of decoded photographs, 8-bit ``(H, W, 3)``; HDR files are linear float32.

    Args:
        memory: bytes of decoded pixels that are kept. More is held briefly while photographs are
            decoded.
    """

    def __init__(self, memory: int) -> None:
        self.cache = Cache(memory)
        self._files: Seen = {}

    def survey(self, scenes: Sequence[Scene]) -> list[Survey]:
        """Decode every file of the scenes once, in threads.

        Raises:
            InputError: a file cannot be read, or the exposures of a scene are not of one size.
            MissingExtraError: see :func:`fastmef.data.radiance.read_radiance`.
        """
        self.look_at(scenes)
        return [self._survey(scene) for scene in scenes]

    def look_at(self, scenes: Sequence[Scene]) -> None:
        """Decode files that are not surveyed yet, in threads; keep the errors of faulty files."""
        paths = dict.fromkeys(path for scene in scenes for path in scene.images)
        missing = [path for path in paths if path not in self._files]
        pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))
        try:
            self._files.update(zip(missing, pool.map(self._describe, missing), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def seen(self) -> Seen:
        """The survey of each file, or the error that it raised; for :meth:`take_over`."""
        return dict(self._files)

    def take_over(self, seen: Seen) -> None:
        """Add the surveys of another process."""
        for path, file in seen.items():
            if path not in self._files:
                # Copies of a file on several machines differ in their time of change.
                known = (
                    file if isinstance(file, FastmefError) else replace(file, state=_state(path))
                )
                self._files[path] = known

    def recall(self, files: Mapping[Path, FileSurvey]) -> set[Path]:
        """Add an earlier survey of the files that have not changed since; return their paths."""
        unchanged = {path for path, file in files.items() if _is_unchanged(path, file)}
        self._files.update((path, files[path]) for path in unchanged)
        return unchanged

    def fault(self, scene: Scene) -> str | None:
        """Return why a scene cannot be used, ``None`` if it can."""
        try:
            self.survey([scene])
        except FastmefError as error:
            return str(error).removeprefix(f"{display(scene.location)}: ")
        return None

    def read(self, path: Path) -> NDArray[Any]:
        """Return the pixels of a file that was surveyed.

        Raises:
            InputError: it cannot be read, or has changed since the survey.
        """
        return self.cache.get(path, lambda: self._decode(path))

    def _survey(self, scene: Scene) -> Survey:
        """Return the survey of a scene whose files are surveyed."""
        files = [self._file(path) for path in scene.images]
        first = files[0]
        for path, file in zip(scene.images, files, strict=True):
            if (file.height, file.width) != (first.height, first.width):
                raise InputError(
                    f"{display(path)}: is {file.width}x{file.height}, but"
                    f" {display(scene.images[0])} is {first.width}x{first.height}; the exposures"
                    " of a scene must have one size"
                )
        paths = sorted(scene.images, key=lambda path: self._file(path).mean)
        return Survey(tuple(paths), first.height, first.width)

    def _file(self, path: Path) -> FileSurvey:
        """Return the survey of a file, or raise its error."""
        file = self._files[path]
        if isinstance(file, FastmefError):
            raise file
        return file

    def _describe(self, path: Path) -> FileSurvey | FastmefError:
        """Decode a file; return its survey, or the error."""
        try:
            before = _state(path)
            pixels = self.cache.get(path, lambda: _pixels(path))
        except FastmefError as error:
            return error
        return FileSurvey(pixels.shape[0], pixels.shape[1], float(pixels.mean()), before)

    def _decode(self, path: Path) -> NDArray[Any]:
        """Decode a file again, which must not have changed since its survey."""
        pixels = _pixels(path)
        if _state(path) != self._file(path).state:
            raise InputError(f"{display(path)}: has changed since the start of the run")
        return pixels


def _is_unchanged(path: Path, file: FileSurvey) -> bool:
    """Return whether the size and time of change of a file are those of its survey."""
    try:
        return _state(path) == file.state
    except InputError:
        return False


def _pixels(path: Path) -> NDArray[Any]:
    """Decode a photograph or an HDR file."""
    scene = Scene(path.name, (path,))
    if scene.is_radiance:
        return read_radiance(path, MAX_RADIANCE_PIXELS).clip(0)
    return read_image(path).pixels


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of change; zeros for a missing file, which reading reports."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    except (OSError, ValueError) as error:
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error
    return status.st_size, status.st_mtime_ns
