"""The log of a run, one JSON object per line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastmef.data.files import atomic_write, display, reason, write_all
from fastmef.errors import InputError, OutputError

Progress = Callable[[dict[str, Any]], None]


class Log:
    """Write records to a file and pass them to listeners.

    Args:
        path: path of the file. Records after step ``start`` are dropped, because the run will write
            them again.
        start: the step from which the run continues.
        listeners: called with every record.
        writes: whether this process writes at all.

    Raises:
        InputError: an existing log is damaged. A last line that is cut off does not count as
            damage: the process was killed while it wrote.
        OutputError: the file cannot be written.
    """

    def __init__(
        self, path: Path, start: int, listeners: Sequence[Progress], writes: bool = True
    ) -> None:
        self._path, self._listeners, self._writes = path, listeners, writes
        if writes:
            kept = _records(path, start) if start else []
            atomic_write(path, b"".join(line + b"\n" for line in kept), force=True)

    def announce(self, record: dict[str, Any]) -> None:
        if self._writes:
            for listener in self._listeners:
                listener(record)

    def write(self, record: dict[str, Any]) -> None:
        self._append((json.dumps(record) + "\n").encode())
        self.announce(record)

    def synchronize(self) -> None:
        """Flush everything written so far to the disk, so that it survives a power cut."""
        self._append(b"", synchronize=True)

    def _append(self, line: bytes, synchronize: bool = False) -> None:
        if not self._writes:
            return
        try:
            with self._path.open("ab", buffering=0) as file:
                write_all(file.fileno(), line)
                if synchronize:
                    os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {display(self._path)}: {reason(error)}") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log.

    Raises:
        InputError: there is no log, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{display(path)}: no such file; needed: the log of a training")
    return [json.loads(line) for line in _records(path, sys.maxsize)]


def _records(path: Path, last: int) -> list[bytes]:
    """Return the lines of a log up to step ``last``."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error
    kept = []
    *lines, _cut_off = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            step = json.loads(line)["step"]
            if not isinstance(step, int):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{display(path)}: line {number} is damaged; without this file the run goes on"
                " with a new log"
            ) from error
        if step <= last:
            kept.append(line)
    return kept
