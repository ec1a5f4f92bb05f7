"""The directories of TIFF files and EXIF blocks, measured before Pillow reads what they name.

An entry of 12 bytes may name any range of the file, and thousands of entries the same one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fastmef.data.damage import Fault, damaged

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS


@dataclass(frozen=True)
class _Layout:
    """How numbers are stored: classic TIFF, or BigTIFF with 64-bit offsets."""

    order: str
    big: bool

    @classmethod
    def of(cls, content: bytes) -> _Layout:
        if content[:4] not in SIGNATURES:
            raise damaged("no header at its start")
        return cls("<" if content[:1] == b"I" else ">", b"+" in content[2:4])

    def number(self, kind: str, content: bytes, offset: int) -> int:
        (value,) = struct.unpack_from(self.order + kind, content, offset)
        return value

    def first(self, content: bytes) -> int:
        return self.number("Q", content, 8) if self.big else self.number("I", content, 4)

    def entries(self, content: bytes, offset: int) -> Iterator[tuple[int, int, int, bool]]:
        """Yield tag, size in bytes, value or offset, and whether the value lies in the file."""
        count = self.number("Q" if self.big else "H", content, offset)
        inline = 8 if self.big else 4
        for i in range(count):
            place = offset + (8 + 20 * i if self.big else 2 + 12 * i)
            tag, kind, values, value = struct.unpack_from(
                self.order + ("HHQQ" if self.big else "HHII"), content, place
            )
            size = _SIZES.get(kind, 0) * values
            yield tag, size, value, size <= inline or value + size <= len(content)

    def following(self, content: bytes, offset: int) -> int:
        count = self.number("Q" if self.big else "H", content, offset)
        if self.big:
            return self.number("Q", content, offset + 8 + 20 * count)
        return self.number("I", content, offset + 2 + 12 * count)


def check_directory(content: bytes) -> None:
    """Refuse a TIFF of several pages, or whose entries lie outside it or are larger than it.

    Raises:
        Fault: see above.
    """
    layout = _Layout.of(content)
    try:
        start = layout.first(content)
        sizes = 0
        for _, size, _, inside in layout.entries(content, start):
            sizes += size
            if not inside or sizes > len(content):
                raise damaged("its entries are larger than the file")
        if layout.following(content, start):
            raise Fault("a TIFF of several pages")
    except struct.error as error:
        raise damaged("its directory is cut off") from error
    if not exif_is_bounded(content):
        raise damaged("its entries are larger than the file")


def exif_is_bounded(block: bytes) -> bool:
    """Return whether the entries of an EXIF block, or a TIFF, are together no larger than it.

    Entries outside the block are ignored, as by Pillow: cameras and editors leave such ones.
    """
    block = block.removeprefix(b"Exif\0\0")
    sizes = 0
    try:
        layout = _Layout.of(block)
        pending, seen = [layout.first(block)], set()
        while pending:
            offset = pending.pop()
            seen.add(offset)
            try:
                for tag, size, value, inside in layout.entries(block, offset):
                    sizes += size if inside else 0
                    if sizes > len(block):
                        return False
                    if tag in _SUB_DIRECTORIES and value not in seen:
                        pending.append(value)
            except struct.error:
                continue  # cut off in the middle of a directory
    except (Fault, struct.error):
        return True  # nothing can be read from it
    return True
