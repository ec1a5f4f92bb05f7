"""Create temporary files beside their destination, and remove those of killed writers."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows no lock is needed, because an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.fastmef-[0-9a-f]{16}\.tmp")
_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows translates line ends otherwise
_O_UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def create_partial(folder: Path) -> tuple[int, Path]:
    """Create a temporary file in ``folder`` and return its descriptor and path.

    The file is locked as long as the descriptor is open. The system releases the lock when the
    process ends for any reason, so a file without a lock has no writer.
    """
    while True:
        path = folder / f".fastmef-{secrets.token_hex(8)}.tmp"
        # The module tempfile ignores the umask: only the owner could read its files.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
        # Before the file is locked, another process may take it for an orphan and remove it. Then
        # another file is created.
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)


def remove_orphans(folder: Path) -> None:
    """Remove the temporary files in ``folder`` whose writers were killed."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_orphan(entry.path)


def _remove_orphan(path: str) -> None:
    """Remove a temporary file unless its writer holds the lock."""
    descriptor = os.open(path, os.O_RDONLY | _O_UNFOLLOWED)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _lock(descriptor):
            return
        if fcntl is not None:
            os.unlink(path)
    finally:
        os.close(descriptor)
    if fcntl is None:
        os.unlink(path)


def _lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file; return ``False`` if another process holds the lock or locking fails."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
