"""Which photographs a run is trained on, so that it is not resumed with others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from fastmef.data.files import display, reason
from fastmef.data.pairs import Scene
from fastmef.data.training_set import TrainingSet
from fastmef.errors import InputError

DataRecord = dict[str, tuple[int, str, str]]
"""``scene/file``, or ``2:scene/file`` in a second folder → size in bytes, SHA-256, split."""


def record_data(found: TrainingSet) -> DataRecord:
    """Hash every file of the scenes.

    Raises:
        InputError: a file cannot be read.
    """
    record: DataRecord = {}
    _record(record, found.training, "train")
    _record(record, found.validation, "validation")
    return record


def _record(record: DataRecord, scenes: Iterable[Scene], split: str) -> None:
    for scene in scenes:
        # Without the folders' own names: copies of them elsewhere are the same photographs.
        prefix = f"{scene.folder + 1}:" if scene.folder else ""
        for path in scene.images:
            try:
                with path.open("rb") as file:
                    digest = hashlib.sha256()
                    while block := file.read(1 << 20):
                        digest.update(block)
                    name = f"{prefix}{scene.name}/{path.name}"
                    while name in record:  # of files of one name in several folders
                        name += "'"
                    record[name] = file.tell(), digest.hexdigest(), split
            except OSError as error:
                raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error


def difference(before: Mapping[str, tuple[int, str, str]], now: DataRecord) -> str | None:
    """Return how the photographs differ from those of a run, in a few words; ``None`` if not."""
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
