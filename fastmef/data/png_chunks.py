"""Read the chunks of a PNG: checksums, header, metadata, and decompressed data."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.PngImagePlugin import PngImageFile

from fastmef.data.damage import Fault, damaged
from fastmef.data.limits import MAX_PROFILE
from fastmef.data.metadata import Embedded, embedded
from fastmef.data.reading import Content

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types

_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_PASSES = (*_ADAM7, (0, 1, 1, 2))  # first column, first row, column step, row step
_EXIF_COMMENT = b"Raw profile type exif\0"
_XMP_COMMENT = b"XML:com.adobe.xmp\0"
_KEPT = (b"eXIf", b"pHYs", b"iCCP")
_LARGEST_METADATA = 64 << 20  # bytes; further metadata are left out
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Header:
    """The first chunk, which describes the image."""

    width: int
    height: int
    depth: int
    color: int
    interlaced: int

    @classmethod
    def parse(cls, data: bytes) -> Header:
        width, height, depth, color, methods, interlaced = struct.unpack(">IIBBHB", data)
        allowed = _DEPTHS.get(color, (8, 16))
        if color not in _CHANNELS or depth not in allowed or methods or interlaced > 1:
            raise damaged("an unknown colour type, depth or method")
        return cls(width, height, depth, color, interlaced)

    def pack(self, height: int) -> bytes:
        """Return the chunk for an image of another height."""
        data = (self.width, height, self.depth, self.color, 0, self.interlaced)
        return chunk(b"IHDR", struct.pack(">IIBBHB", *data))

    @property
    def channels(self) -> int:
        return _CHANNELS[self.color]

    def passes(self) -> list[tuple[int, int]]:
        """Return for every pass its rows and the bytes of a row, including the filter byte.

        An image that is not interlaced has one pass.
        """
        bits = self.depth * self.channels
        sizes = [
            (-(-(self.height - top) // down), -(-(self.width - left) // across))
            for left, top, across, down in (_PASSES if self.interlaced else ((0, 0, 1, 1),))
        ]
        return [(rows, 1 + (w * bits + 7) // 8) for rows, w in sizes if w > 0 and rows > 0]


@dataclass(frozen=True)
class Png:
    """A PNG whose chunks are in order and have right checksums, except image data."""

    header: Header
    data: list[tuple[int, int]]
    """Offset and length of every chunk of image data."""
    metadata: list[bytes]
    """Whole chunks."""
    kinds: set[bytes]

    def embedded(self) -> Embedded:
        """Read the metadata with Pillow, from an image of one pixel with the same chunks."""
        profile = _profile(self.metadata)
        others = [part for part in self.metadata if part[4:8] != b"iCCP"]
        pixel = Header(1, 1, 8, GREY, 0)
        content = assemble(pixel, 1, b"\0\0", others)
        try:
            image = PngImageFile(io.BytesIO(content))
            image.load()  # reads the chunks behind the pixels
            found = embedded(image)
        except Exception:  # a damaged comment must not cost the photograph
            found = Embedded(1, {}, {}, {})
        return Embedded(
            found.orientation, found.tags, found.directories, {**found.info, "icc_profile": profile}
        )


def parse_png(content: Content) -> Png:
    """Read the chunks of a PNG, and compare the checksums of all except image data.

    Raises:
        Fault: the file is truncated, a checksum is wrong, or the chunks are in the wrong order.
    """
    position, header, data = len(SIGNATURE), None, []
    metadata: list[bytes] = []
    kinds: list[bytes] = []
    room = _LARGEST_METADATA
    while not kinds or kinds[-1] != b"IEND":
        start = content.read(position, 8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8 or position + 12 + length > content.size:
            raise damaged("it is truncated, or the length of a part is wrong")
        kinds.append(kind)
        if kind == b"IDAT":
            data.append((position + 8, length))
        else:
            _check_chunk(content, kind, position, length)
        if kind == b"IHDR" and header is None and length == 13:
            header = Header.parse(content.read(position + 8, 13))
        if length <= room and _has_metadata(kind, content.read(position + 8, 30)):
            metadata.append(content.read(position, length + 12))
            room -= length
        position += 12 + length
    if kinds[0] != b"IHDR" or header is None or kinds.count(b"IHDR") != 1:
        raise damaged("no header at its start")
    first = kinds.index(b"IDAT") if data else 0
    if not data or kinds[first : first + len(data)] != [b"IDAT"] * len(data):
        raise damaged("its image data are not in one place")
    return Png(header, data, metadata, set(kinds))


class Inflater:
    """Decompress the image data, and compare the checksum of every chunk."""

    def __init__(self, content: Content, chunks: list[tuple[int, int]]) -> None:
        self._blocks = _read_blocks(content, chunks)
        self._stream = zlib.decompressobj()
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        parts = []
        while size > 0:
            part = self._more(size)
            if part is None:
                raise damaged("its image data end too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Check that the stream ends here; zlib compares its checksum."""
        while (part := self._more(1)) is not None:
            if part or self._stream.unused_data:
                raise damaged("it has more image data than rows")
        if not self._stream.eof or self._stream.unused_data:
            raise damaged("its image data end too early or too late")

    def _more(self, size: int) -> bytes | None:
        """Return up to ``size`` bytes; ``None`` at the end of the chunks."""
        if not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return None
            self._rest = block
        try:
            part = self._stream.decompress(self._rest, size)
        except zlib.error as error:
            raise damaged("the image data cannot be decompressed") from error
        self._rest = self._stream.unconsumed_tail
        return part


def _read_blocks(content: Content, chunks: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the compressed data, and compare the checksum of every chunk after its last byte."""
    for offset, length in chunks:
        checksum, end = zlib.crc32(b"IDAT"), offset + length
        for start in range(offset, end, _BLOCK):
            block = content.read(start, min(_BLOCK, end - start))
            checksum = zlib.crc32(block, checksum)
            yield block
        _compare(content, checksum, end, b"IDAT")


def _check_chunk(content: Content, kind: bytes, position: int, length: int) -> None:
    """Compare the checksum of a chunk."""
    checksum, end = zlib.crc32(kind), position + 8 + length
    for start in range(position + 8, end, _BLOCK):
        checksum = zlib.crc32(content.read(start, min(_BLOCK, end - start)), checksum)
    _compare(content, checksum, end, kind)


def _has_metadata(kind: bytes, start: bytes) -> bool:
    """Return whether a chunk holds metadata that are kept; ``start`` is the begin of its data."""
    if kind == b"iTXt":
        return start.startswith(_XMP_COMMENT)
    if kind in (b"tEXt", b"zTXt"):
        return start.startswith(_EXIF_COMMENT)
    return kind in _KEPT


def _compare(content: Content, checksum: int, offset: int, kind: bytes) -> None:
    """Compare a computed checksum with the stored one at ``offset``."""
    if content.read(offset, 4) != checksum.to_bytes(4, "big"):
        raise damaged(f"the checksum of its part {ascii(kind)[2:-1]} is wrong")


def assemble(header: Header, height: int, raw: bytes, others: list[bytes]) -> bytes:
    """Return a PNG of filtered rows, stored without compression, with other chunks before them."""
    return b"".join(
        (
            SIGNATURE,
            header.pack(height),
            *others,
            chunk(b"IDAT", zlib.compress(raw, 0)),
            chunk(b"IEND", b""),
        )
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG, with its length and checksum."""
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def _profile(chunks: list[bytes]) -> bytes | None:
    """Decompress the colour profile, which Pillow limits to 1 MiB."""
    for part in chunks:
        if part[4:8] == b"iCCP":
            name, _, rest = part[8:-4].partition(b"\0")
            if len(name) > 79:
                raise damaged("the colour profile has no name")
            stream = zlib.decompressobj()
            try:
                profile = stream.decompress(rest[1:], MAX_PROFILE + 1)
            except zlib.error as error:
                raise damaged("the colour profile cannot be decompressed") from error
            if len(profile) > MAX_PROFILE:
                raise Fault(f"a colour profile of more than {MAX_PROFILE:,} bytes")
            if not stream.eof or stream.unused_data:
                raise damaged("the colour profile ends too early or too late")
            return profile
    return None
