"""Reading a whole file of bounded size, whatever kind of file it is."""

from __future__ import annotations

import os
import select
import stat
import time

from fastmef.data.files import display, reason
from fastmef.errors import InputError

WRITER_SECONDS = 5.0  # how long a pipe may have no writer before it is refused
_BLOCK = 1 << 20
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_bytes(path: str | os.PathLike[str], limit: int, needed: str) -> bytes:
    """Return the content of a regular file or a pipe, such as ``/dev/stdin`` or ``<(command)``.

    Args:
        path: of the file.
        limit: the most bytes that are read.
        needed: what the file should be, for messages.

    Raises:
        InputError: there is no such file, it is a folder or a device, it cannot be read, it has
            more than ``limit`` bytes, or it is a pipe into which nothing writes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError as error:
        raise InputError(f"{display(path)}: no such file; needed: {needed}") from error
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # Windows cannot open folders
            raise InputError(f"{display(path)}: a folder; needed: {needed}") from error
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error
    try:
        return _read(descriptor, path, limit, needed)
    except OSError as error:
        raise InputError(f"{display(path)}: cannot be read: {reason(error)}") from error
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: str | os.PathLike[str], limit: int, needed: str) -> bytes:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{display(path)}: a folder; needed: {needed}")
    pipe = stat.S_ISFIFO(status.st_mode)
    if not (pipe or stat.S_ISREG(status.st_mode)):
        raise InputError(f"{display(path)}: a device; needed: {needed}")
    if status.st_size > limit:
        raise _too_large(path, limit)
    deadline = time.monotonic() + WRITER_SECONDS
    content = bytearray()
    while True:
        try:
            block = os.read(descriptor, max(status.st_size + 1, _BLOCK))
        except BlockingIOError:  # a pipe whose writer has nothing ready yet
            select.select([descriptor], [], [])
            continue
        if block:
            content += block
        elif content or not pipe:
            return bytes(content)
        elif time.monotonic() < deadline:  # a pipe without a writer reads as an empty file
            time.sleep(0.02)
        else:
            raise InputError(f"{display(path)}: a pipe into which nothing writes; needed: {needed}")
        if len(content) > limit:
            raise _too_large(path, limit)


def _too_large(path: str | os.PathLike[str], limit: int) -> InputError:
    return InputError(f"{display(path)}: larger than {limit} bytes, the most that is read")
