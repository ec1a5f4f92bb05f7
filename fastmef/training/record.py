"""Which photographs a run is trained on, so that it is not resumed with others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from fastmef.data.files import display, reason
from fastmef.data.pairs import Scene
from fastmef.errors import InputError

DataRecord = dict[str, tuple[int, str]]
"""``scene/file``, or ``2:scene/file`` in a second folder → size in bytes and SHA-256."""


def record_data(scenes: Iterable[Scene]) -> DataRecord:
    """Hash every file of the scenes.

    Raises:
        InputError: a file cannot be read.
    """
    record: DataRecord = {}
    for scene in scenes:
        # Without the folders' own names: copies of them elsewhere are the same photographs.
        prefix = f"{scene.folder + 1}:" if scene.folder else ""
        for path in scene.images:
            try:
                with path.open("rb") as file:
                    digest = hashlib.sha256()
                    while block := file.read(1 << 20):
                        digest.update(block)
                    record[f"{prefix}{scene.name}/{path.name}"] = (file.tell(), digest.hexdigest())
            except OSError as error:
                raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error
    return record


def difference(before: Mapping[str, tuple[int, str]], now: DataRecord) -> str | None:
    """Return how the photographs differ from those of a run, in a few words; ``None`` if not."""
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            return f"{display(name)} is missing"
        if name not in before:
            return f"{display(name)} is new"
        if tuple(before[name]) != now[name]:
            return f"{display(name)} has changed"
    return None
