"""Writing files so that nothing half-written is ever seen, and naming them in messages."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fastmef.errors import OutputError


def display(path: str | os.PathLike[str]) -> str:
    """The path as one line of text, quoted where it holds line breaks or undecodable bytes."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def check_output(path: str | os.PathLike[str], force: bool = False) -> None:
    """Find out before any work is done whether ``path`` can be written.

    Raises:
        OutputError: it is a folder, it exists and ``force`` is false, its folder does not exist,
            or nothing can be created there.
    """
    if os.path.isdir(path):
        raise OutputError(f"cannot write {display(path)}: it is a folder; a file name is needed")
    if os.path.exists(path) and not force:
        raise OutputError(f"{display(path)} exists already; --force (force=True) replaces it")
    target = _resolved(path)
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write {display(path)}: no such folder as {display(target.parent)}"
        )
    try:
        with contextlib.suppress(FileNotFoundError):
            target.lstat()  # finds names that are too long
        # Permission bits mislead for root and on network drives; trying does not.
        tempfile.TemporaryFile(dir=target.parent).close()
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {display(path)}: {_reason(error)}") from error


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], force: bool = False) -> Iterator[BinaryIO]:
    """A binary file that appears under its name complete, or not at all.

    It is written beside its destination and moved there when the block ends; if the block raises,
    an existing file stays as it was and the partial one is removed.

    Raises:
        OutputError: as :func:`check_output`, or the disk refused while writing.
    """
    check_output(path, force)
    target = _resolved(path)
    partial = target.with_name(f"{_PARTIAL}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        # Not tempfile: its files are readable by the owner alone, whatever the umask says.
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists() and not force:
            raise OutputError(f"{display(path)} exists already; --force (force=True) replaces it")
        os.replace(partial, target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {display(path)}: {_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Delete what writers killed in the middle have left in a folder that has no other writer."""
    for partial in Path(folder).glob(f"{_PARTIAL}*{_SUFFIX}"):
        partial.unlink(missing_ok=True)


_PARTIAL, _SUFFIX = ".fastmef-", ".tmp"
_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone translates line ends


def _resolved(path: str | os.PathLike[str]) -> Path:
    """Where the bytes go: a link is followed, not replaced."""
    return Path(os.path.realpath(path))


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
