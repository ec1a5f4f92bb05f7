"""Keep the survey of a run's photographs in its folder.

A resumed run does not decode and hash a photograph again if its size and time of change are those
of the survey. The file only saves time: if it is missing or damaged, all photographs are surveyed
again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from fastmef.data.files import atomic_write
from fastmef.data.frames import FileSurvey, Frames
from fastmef.data.reading import read_bytes
from fastmef.data.tensors import pack, unpack
from fastmef.errors import FastmefError
from fastmef.training.record import Digest

SURVEY = "survey.safetensors"
FORMAT = "fastmef.survey/1"

_LARGEST = 1 << 30  # bytes
_NEEDED = "a survey written by fastmef train"


def load_survey(run: Path, store: Frames, paths: Iterable[Path]) -> dict[Path, Digest]:
    """Add the surveys of unchanged files among ``paths`` to the store; return their digests.

    The survey identifies photographs by their absolute paths.
    """
    known = _read(run / SURVEY)
    names = {path: os.path.abspath(path) for path in paths}
    files = {path: known[name][0] for path, name in names.items() if name in known}
    return {
        path: Digest(files[path].state[0], known[names[path]][1]) for path in store.recall(files)
    }


def save_survey(run: Path, store: Frames, digests: dict[Path, Digest]) -> None:
    """Write the surveys and digests of the files atomically.

    A file that changes later will not have the time of change that is written here.

    Raises:
        OutputError: see :func:`fastmef.data.files.atomic_write`.
    """
    seen = store.seen
    files = {}
    for path, digest in digests.items():
        file = seen[path]
        if not isinstance(file, FastmefError):
            entry = [*file.state, file.height, file.width, file.mean, digest.sha256]
            files[os.path.abspath(path)] = entry
    content = pack({}, {"format": FORMAT, "files": json.dumps(files)})
    atomic_write(run / SURVEY, content, force=True)


def _read(path: Path) -> dict[str, tuple[FileSurvey, str]]:
    """Return absolute path → survey and SHA-256; an empty dict if the file cannot be read."""
    try:
        _, texts = unpack(read_bytes(path, _LARGEST, _NEEDED))
        if texts.get("format") != FORMAT:
            return {}
        return {
            name: (FileSurvey(height, width, mean, (size, changed)), sha256)
            for name, (size, changed, height, width, mean, sha256) in json.loads(
                texts["files"]
            ).items()
        }
    except (KeyError, ValueError):  # Fault and InputError are ValueErrors
        return {}
