"""Read the bytes of a regular file or a pipe, up to a limit."""

from __future__ import annotations

import io
import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from fastmef.data.files import display, reason
from fastmef.errors import InputError

WRITER_SECONDS = 5.0  # how long a pipe may have no writer before it is refused
_BLOCK = 1 << 20
_LARGEST_READ = 1 << 30  # Linux reads at most 2 GiB at a time
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class Content:
    """The bytes of a file. Parts of a regular file are read on demand, a pipe at once to its end.

    Args:
        path: path of the file, or of a pipe such as ``/dev/stdin`` or ``<(command)``.
        limit: the most bytes that are read.
        needed: what the file should be, for messages.
        pipe_limit: the most bytes of a pipe, which are all in memory; ``None`` is ``limit``.

    Raises:
        InputError: the file does not exist, is a folder or a device, cannot be read, or has more
            than ``limit`` bytes; or nothing writes into the pipe.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limit: int,
        needed: str,
        pipe_limit: int | None = None,
    ) -> None:
        self.path, self.name = Path(path), display(path)
        self._descriptor = _open(path, needed)
        self._piped: bytes | None = None
        try:
            with self._report():
                status = os.fstat(self._descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise InputError(f"{self.name}: a folder; needed: {needed}")
                if stat.S_ISFIFO(status.st_mode):
                    limit = limit if pipe_limit is None else pipe_limit
                    self._piped = _read_pipe(self._descriptor, self.name, limit, needed)
                elif not stat.S_ISREG(status.st_mode):
                    raise InputError(f"{self.name}: a device; needed: {needed}")
            self.size = status.st_size if self._piped is None else len(self._piped)
            if self.size > limit:
                raise _too_large(self.name, limit)
        except BaseException:
            self.close()
            raise
        self._state = (status.st_size, status.st_mtime_ns)

    @property
    def is_pipe(self) -> bool:
        return self._piped is not None

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on; fewer only at the end of the file."""
        if self._piped is not None:
            return self._piped[offset : offset + size]
        size = min(size, max(0, self.size - offset))  # a wrong size in a file allocates nothing
        parts = []
        with self._report():
            while size > 0 and (part := _read_at(self._descriptor, size, offset)):
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def whole(self, limit: int | None = None) -> bytes:
        """Return all bytes, at most ``limit``.

        Raises:
            InputError: there are more, or the file changes while it is read.
        """
        if limit is not None and self.size > limit:
            raise _too_large(self.name, limit)
        content = self.read(0, self.size)
        self.check_unchanged()
        return content

    def stream(self) -> IO[bytes]:
        """Return a file object for decoders. Only one may be in use at a time."""
        if self._piped is not None:
            return io.BytesIO(self._piped)
        with self._report():
            return os.fdopen(os.dup(self._descriptor), "rb")

    def check_unchanged(self) -> None:
        """Check that nothing was written to the file since it was opened.

        Raises:
            InputError: the file has changed, so the parts that were read may not fit together.
        """
        if self._piped is None:
            with self._report():
                status = os.fstat(self._descriptor)
            if (status.st_size, status.st_mtime_ns) != self._state:
                raise InputError(f"{self.name}: has changed while it was read")

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def _report(self) -> Iterator[None]:
        """Name the file in system errors."""
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {reason(error)}") from error


def read_bytes(path: str | os.PathLike[str], limit: int, needed: str) -> bytes:
    """Return all bytes of a regular file or a pipe.

    Raises:
        InputError: see :class:`Content`; or the file changes while it is read.
    """
    with closing(Content(path, limit, needed)) as content:
        return content.whole()


def _open(path: str | os.PathLike[str], needed: str) -> int:
    """Return a descriptor for reading a file, without waiting for the writer of a pipe."""
    try:
        return os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError as error:
        raise InputError(f"{display(path)}: no such file; needed: {needed}") from error
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # Windows cannot open folders
            raise InputError(f"{display(path)}: a folder; needed: {needed}") from error
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read up to ``size`` bytes at ``offset``."""
    size = min(size, _LARGEST_READ)
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows
    return os.read(descriptor, size)


def _read_pipe(descriptor: int, name: str, limit: int, needed: str) -> bytes:
    """Return all that is written into a pipe."""
    deadline = time.monotonic() + WRITER_SECONDS
    content = bytearray()
    while True:
        try:
            block = os.read(descriptor, _BLOCK)
        except BlockingIOError:  # a pipe whose writer has nothing ready yet
            select.select([descriptor], [], [])
            continue
        if block:
            content += block
        elif content:
            return bytes(content)
        elif time.monotonic() < deadline:  # a pipe without a writer reads as an empty file
            time.sleep(0.02)
        else:
            raise InputError(f"{name}: a pipe into which nothing writes; needed: {needed}")
        if len(content) > limit:
            raise _too_large(name, limit)


def _too_large(name: str, limit: int) -> InputError:
    """Return the error for a file of more than ``limit`` bytes."""
    return InputError(f"{name}: larger than {limit} bytes, the most that is read")
