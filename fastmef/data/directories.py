"""Measure the directories of TIFF files and EXIF blocks before Pillow reads their values.

An entry of 12 bytes may refer to any range of the file, and thousands of entries to the same range.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastmef.data.damage import Fault, damaged

Reader = Callable[[int, int], bytes]

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_LARGEST_DIRECTORY = 64 << 20  # bytes of all values, which Pillow reads into memory
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS


@dataclass(frozen=True)
class _Layout:
    """The format of numbers: classic TIFF, or BigTIFF with 64-bit offsets; and the byte order."""

    read: Reader
    order: str
    big: bool

    @classmethod
    def of(cls, read: Reader) -> _Layout:
        start = read(0, 4)
        if start not in SIGNATURES:
            raise damaged("no header at its start")
        return cls(read, "<" if start[:1] == b"I" else ">", b"+" in start[2:])

    def number(self, kind: str, offset: int) -> int:
        """Read one number; ``kind`` is its type for :mod:`struct`."""
        layout = struct.Struct(self.order + kind)
        (value,) = layout.unpack(self.read(offset, layout.size))
        return value

    def first(self) -> int:
        """Return the offset of the first directory."""
        return self.number("Q", 8) if self.big else self.number("I", 4)

    def entries(self, offset: int, size: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yield tag, size in bytes, value or offset, and whether the value lies in the file.

        ``size`` is the size of the file in bytes.
        """
        count = self.number("Q" if self.big else "H", offset)
        layout = struct.Struct(self.order + ("HHQQ" if self.big else "HHII"))
        inline = 8 if self.big else 4
        start = offset + (8 if self.big else 2)
        table = self.read(start, count * layout.size)
        for tag, kind, values, value in layout.iter_unpack(
            table[: len(table) // layout.size * layout.size]
        ):
            length = _SIZES.get(kind, 0) * values
            yield tag, length, value, length <= inline or value + length <= size
        if len(table) < count * layout.size:
            raise struct.error("cut off in the middle of a directory")

    def following(self, offset: int) -> int:
        """Return the offset of the directory after the one at ``offset``; 0 if it is the last."""
        count = self.number("Q" if self.big else "H", offset)
        if self.big:
            return self.number("Q", offset + 8 + 20 * count)
        return self.number("I", offset + 2 + 12 * count)


def check_directory(read: Reader, size: int) -> None:
    """Check that a TIFF has one page and that its entries lie in the file.

    Args:
        read: returns bytes of the file, given their offset and number.
        size: size of the file in bytes.

    Raises:
        Fault: there are several pages, or entries lie outside the file or are larger than it.
    """
    layout = _Layout.of(read)
    try:
        start = layout.first()
        sizes = 0
        for _, length, _, inside in layout.entries(start, size):
            sizes += length
            if not inside or sizes > size:
                raise damaged("its entries are larger than the file")
            if sizes > _LARGEST_DIRECTORY:
                raise Fault(f"more than {_LARGEST_DIRECTORY} bytes of metadata")
        if layout.following(start):
            raise Fault("a TIFF of several pages")
    except struct.error as error:
        raise damaged("its directory is cut off") from error
    if not _is_bounded(read, size):
        raise damaged("its entries are larger than the file")


def exif_is_bounded(block: bytes) -> bool:
    """Return whether the entries of an EXIF block are together at most as large as the block.

    Entries outside the block are ignored, as Pillow does: cameras and editors leave such entries.
    """
    block = block.removeprefix(b"Exif\0\0")
    return _is_bounded(lambda offset, size: block[offset : offset + size], len(block))


def _is_bounded(read: Reader, size: int) -> bool:
    """Return whether the entries of all directories are together at most as large as the file."""
    sizes = 0
    try:
        layout = _Layout.of(read)
        pending, seen = [layout.first()], set()
        while pending:
            offset = pending.pop()
            seen.add(offset)
            try:
                for tag, length, value, inside in layout.entries(offset, size):
                    sizes += length if inside else 0
                    if sizes > size:
                        return False
                    if tag in _SUB_DIRECTORIES and value not in seen:
                        pending.append(value)
            except struct.error:
                continue  # cut off in the middle of a directory
    except (Fault, struct.error):
        return True  # nothing can be read from it
    return True
