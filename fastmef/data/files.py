"""Write files atomically, and name them in messages."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastmef.data.partial import create_partial, remove_orphans
from fastmef.errors import OutputError

Content = bytes | bytearray | memoryview


def display(path: str | os.PathLike[str]) -> str:
    """Return the path as one line of text, quoted if it has line breaks or undecodable bytes."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


def reason(error: BaseException) -> str:
    """Return what an error says, in lower case, for the end of a message."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def check_output(path: str | os.PathLike[str], force: bool = False) -> None:
    """Check before any work is done whether ``path`` can be written.

    Raises:
        OutputError: ``path`` is a folder, a device or a pipe; it exists and ``force`` is false; its
            folder does not exist; or no file can be created there.
    """
    target = Path(os.path.realpath(path))
    try:
        _check_existing(path, target, force)
        if not os.path.isdir(target.parent):
            raise OutputError(
                f"cannot write {display(path)}: no such folder as {display(target.parent)}"
            )
        # Permission bits mislead for root and on network drives, so a file is created.
        tempfile.TemporaryFile(dir=target.parent).close()
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {display(path)}: {reason(error)}") from error


class AtomicFile:
    """A file that is written in parts and appears under its name complete, or not at all.

    The content goes into a temporary file in the same folder, which is renamed when every byte has
    reached the disk. A link is followed. A file that is replaced keeps its permission bits, and its
    owner and group if the system allows it. Without ``force``, only one of several writers of the
    same name succeeds.

    Raises:
        OutputError: see :func:`check_output`; or the system reports an error while writing. The
            temporary file is removed then.
    """

    def __init__(self, path: str | os.PathLike[str], force: bool = False) -> None:
        check_output(path, force)
        self._path, self._force = path, force
        self._target = Path(os.path.realpath(path))
        remove_orphans(self._target.parent)
        with self._report():
            self._descriptor, self.partial = create_partial(self._target.parent)
        self._open = True
        with self._report():
            _keep_mode_and_owner(self._target, self._descriptor)

    def write(self, content: Content) -> None:
        """Append ``content``."""
        with self._report():
            write_all(self._descriptor, content)

    def rewrite(self, offset: int, content: Content) -> None:
        """Replace bytes from ``offset`` on, which were written before."""
        with self._report():
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            write_all(self._descriptor, content)
            os.lseek(self._descriptor, 0, os.SEEK_END)

    def commit(self) -> None:
        """Give the file its name."""
        with self._report():
            os.fsync(self._descriptor)
            if os.name == "nt":  # an open file cannot be renamed there
                self._close()
            # Elsewhere the file stays open, and thereby locked, until it has its name.
            _publish(self.partial, self._target, self._force)
        self.abort()  # removes the temporary name, if the file was published by a hard link
        _sync_folder(self._target.parent)

    def abort(self) -> None:
        """Remove the temporary file. This does nothing after :meth:`commit`."""
        if self._open:
            self.partial.unlink(missing_ok=True)
            self._close()
            self._open = False

    def _close(self) -> None:
        """Close the descriptor."""
        with contextlib.suppress(OSError):  # closed before it was renamed, on Windows
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _report(self) -> Iterator[None]:
        """Remove the temporary file when anything fails, and name the target in system errors."""
        try:
            yield
        except BaseException as error:
            if hasattr(self, "_open"):
                self.abort()
            if isinstance(error, FileExistsError):
                raise _exists(self._path) from error
            if isinstance(error, OSError):
                message = f"cannot write {display(self._path)}: {reason(error)}"
                raise OutputError(message) from error
            raise


def atomic_write(path: str | os.PathLike[str], content: Content, force: bool = False) -> None:
    """Write a file that appears under its name complete, or not at all.

    Raises:
        OutputError: see :class:`AtomicFile`.
    """
    file = AtomicFile(path, force)
    file.write(content)
    file.commit()


def _check_existing(path: str | os.PathLike[str], target: Path, force: bool) -> None:
    """Refuse a target that must not be replaced."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {display(path)}: it is a folder; a file name is needed")
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"cannot write {display(path)}: it is a device, a pipe or a socket; only regular files"
            " are replaced"
        )
    if not force:
        raise _exists(path)


def _exists(path: str | os.PathLike[str]) -> OutputError:
    """Return the error for a file that exists."""
    return OutputError(f"{display(path)} exists already; --force (force=True) replaces it")


def _keep_mode_and_owner(target: Path, descriptor: int) -> None:
    """Give an open file the permission bits, owner and group of the file that it replaces."""
    if not hasattr(os, "fchown"):
        return
    with contextlib.suppress(FileNotFoundError):
        old = target.stat()
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)


def write_all(descriptor: int, content: Content) -> None:
    """Write all bytes. A single ``write`` to an almost full disk may write fewer without error."""
    rest = memoryview(content).cast("B")
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def _publish(partial: Path, target: Path, force: bool) -> None:
    """Give the finished file its name; without ``force``, fail if the name is taken."""
    if force:
        os.replace(partial, target)
    else:
        try:
            os.link(partial, target)
            return
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        # A file system without hard links, such as FAT: reserve the name, then replace the file.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(partial, target)
        except OSError:
            os.unlink(target)
            raise


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, if the system can synchronise folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
