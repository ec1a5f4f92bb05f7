"""Allow one training at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from fastmef.data.files import display, reason
from fastmef.errors import OutputError

LOCK = ".lock"


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder. The system releases it when the process ends.

    Raises:
        OutputError: another training holds the lock, or it cannot be created.
    """
    lock: FileLock | SoftFileLock = FileLock(run / LOCK)
    try:
        try:
            lock.acquire(timeout=0)
        except NotImplementedError:  # some network drives have no locks
            lock = SoftFileLock(run / LOCK)
            lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(f"{display(run)}: another training is running in this folder") from error
    except OSError as error:
        raise OutputError(f"cannot write {display(run)}: {reason(error)}") from error
    try:
        yield
    finally:
        lock.release()
