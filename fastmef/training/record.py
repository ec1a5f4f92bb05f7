"""Record which photographs a run is trained on, so that it is not resumed with others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastmef.data.files import display, reason
from fastmef.data.training_set import TrainingSet
from fastmef.errors import InputError

DataRecord = dict[str, tuple[int, str, str]]
"""``scene/file``, or ``2:scene/file`` in a second folder → size in bytes, SHA-256, split."""


class Digest(NamedTuple):
    """Size and hash, which identify the content of a file."""

    size: int
    """In bytes."""
    sha256: str


def digest_files(found: TrainingSet, known: Mapping[Path, Digest]) -> dict[Path, Digest]:
    """Return the digest of every file of the scenes; files in ``known`` are not hashed again.

    Raises:
        InputError: a file cannot be read.
    """
    return {path: known[path] if path in known else digest(path) for path in found.paths}


def digest(path: Path) -> Digest:
    """Hash a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.sha256()
            while block := file.read(1 << 20):
                sha256.update(block)
            return Digest(file.tell(), sha256.hexdigest())
    except OSError as error:
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error


def record_data(found: TrainingSet, digests: Mapping[Path, Digest]) -> DataRecord:
    """Return the record of all files of the scenes: name → digest and split."""
    record: DataRecord = {}
    for split, scenes in (("train", found.training), ("validation", found.validation)):
        for scene in scenes:
            # The folders' own names are left out, so that folders can be moved.
            prefix = f"{scene.folder + 1}:" if scene.folder else ""
            for path in scene.images:
                name = f"{prefix}{scene.name}/{path.name}"
                while name in record:  # files of a scene may have the same name
                    name += "'"
                record[name] = (*digests[path], split)
    return record


def difference(before: Mapping[str, tuple[int, str, str]], now: DataRecord) -> str | None:
    """Say how the photographs differ from those of a run; ``None`` if they do not."""
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            return f"{display(name)} is missing"
        if name not in before:
            return f"{display(name)} is new"
        if before[name][:2] != now[name][:2]:
            return f"{display(name)} has changed"
        if before[name] != now[name]:
            return f"{display(name)} was for {before[name][2]}, now for {now[name][2]}"
    return None
