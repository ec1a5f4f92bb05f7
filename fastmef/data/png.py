"""PNG: read in strips of rows, with all checksums, which Pillow leaves out.

The image data are decompressed here and every strip of rows is given to libpng as an image of its
own, stored without compression and headed by the last row of the strip before, on which its first
row may depend. So the file is never in memory, and what undoes the filters is the library.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import Fault, damaged, report_faults
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.extras import import_extra
from fastmef.data.kinds import check_size, refuse
from fastmef.data.limits import MAX_PROFILE
from fastmef.data.metadata import Embedded, embedded
from fastmef.data.reading import Content

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_PASSES = (*_ADAM7, (0, 1, 1, 2))  # first column, first row, steps
_EXIF_COMMENT = b"Raw profile type exif\0"
_XMP_COMMENT = b"XML:com.adobe.xmp\0"
_KEPT = (b"eXIf", b"pHYs", b"iCCP")
_LARGEST_METADATA = 64 << 20  # bytes; what goes beyond is left out
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Header:
    """The first chunk, and what follows from it."""

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
        """Return the chunk of an image of another height."""
        data = (self.width, height, self.depth, self.color, 0, self.interlaced)
        return chunk(b"IHDR", struct.pack(">IIBBHB", *data))

    @property
    def channels(self) -> int:
        return _CHANNELS[self.color]

    def passes(self) -> list[tuple[int, int]]:
        """Return rows and bytes of a row, with the filter, of every pass of an interlaced image."""
        bits = self.depth * self.channels
        sizes = [
            (-(-(self.height - top) // down), -(-(self.width - left) // across))
            for left, top, across, down in (_PASSES if self.interlaced else ((0, 0, 1, 1),))
        ]
        return [(rows, 1 + (w * bits + 7) // 8) for rows, w in sizes if w > 0 and rows > 0]


@dataclass(frozen=True)
class Png:
    """A PNG whose chunks are in order, and sound but for the image data."""

    header: Header
    data: list[tuple[int, int]]
    """Offset and length of every chunk of image data."""
    metadata: list[bytes]
    """Whole chunks."""
    kinds: set[bytes]

    def embedded(self) -> Embedded:
        """Read the metadata by Pillow, from an image of one pixel that has the same."""
        profile = _profile(self.metadata)
        others = [part for part in self.metadata if part[4:8] != b"iCCP"]
        pixel = Header(1, 1, 8, _GREY, 0)
        content = _assemble(pixel, 1, b"\0\0", others)
        try:
            image = PngImageFile(io.BytesIO(content))
            image.load()  # what stands behind the pixels
            found = embedded(image)
        except Exception:  # a damaged comment must not cost the photograph
            found = Embedded(1, {}, {}, {})
        return Embedded(
            found.orientation, found.tags, found.directories, {**found.info, "icc_profile": profile}
        )


def parse_png(content: Content) -> Png:
    """Read the chunks of a PNG, and compare the checksum of every one but those of image data.

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


def open_png(content: Content) -> DecodedSource | PngSource:
    """Open a PNG of 8 or 16 bits; alpha is kept as the mask of valid pixels.

    Raises:
        Fault: see :func:`parse_png`; it is of a kind that is not supported.
    """
    png = parse_png(content)
    header = png.header
    check_size(header.width, header.height, content.size)
    if header.color == _PALETTE:
        raise refuse("a palette")
    if header.depth == 1:
        raise refuse("a 1-bit")
    if b"tRNS" in png.kinds:
        raise refuse("a transparent-colour (alpha)")
    if b"acTL" in png.kinds:
        raise refuse("a several-frame")
    if header.depth == 16 and header.color != _GREY:
        import_extra("imagecodecs", "photo", "reading 16-bit colour PNG")
    found = png.embedded()
    if found.orientation == 1 and header.depth >= 8 and not header.interlaced:
        return PngSource(content, png, found)
    turned = found.orientation >= 5
    has_alpha = header.channels in (2, 4)
    channels = header.channels - has_alpha
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    raw_bytes = sum(rows * stride for rows, stride in header.passes())

    def decode() -> Rows:
        inflater = _Inflater(content, png.data)
        raw = inflater.read(raw_bytes)
        inflater.finish()
        _check_filters(raw, header.passes())
        return split_alpha(_decode(header, header.height, raw))

    return DecodedSource(
        content.name,
        (header.height, header.width, channels),
        np.uint8 if header.depth <= 8 else np.uint16,
        has_alpha,
        found.upright(width, height, channels),
        decode,
        3 * raw_bytes,
        found.orientation,
        release=content.close,
    )


class PngSource:
    """A PNG whose rows are decoded when they are asked for, in the order of the file."""

    streams, linear = True, False

    def __init__(self, content: Content, png: Png, found: Embedded) -> None:
        header = png.header
        self.name, self.width, self.height = content.name, header.width, header.height
        self.has_alpha = header.channels in (2, 4)
        self.channels = header.channels - self.has_alpha
        self.dtype = np.dtype(np.uint8 if header.depth == 8 else np.uint16)
        self.metadata = found.upright(self.width, self.height, self.channels)
        self._content, self._png = content, png
        ((_, self._stride),) = header.passes()
        self._block_rows = max(1, _BLOCK // self._stride)
        self.resident_bytes = 5 * (self._block_rows + 1) * self._stride + 4 * _BLOCK
        self._restart()

    def rows(self, top: int, bottom: int) -> Rows:
        pixels = np.empty((bottom - top, self.width, self.channels), self.dtype)
        valid = np.empty((bottom - top, self.width), np.bool_) if self.has_alpha else None
        with report_faults(self.name):
            if top < self._next:
                self._restart()
            while self._next < bottom:
                start = self._next
                end = top if start < top else bottom
                block, mask = split_alpha(self._decode_rows(min(self._block_rows, end - start)))
                if start >= top:
                    pixels[start - top : self._next - top] = block
                    if valid is not None:
                        valid[start - top : self._next - top] = mask
        return pixels, valid

    def close(self) -> None:
        self._content.close()

    def _restart(self) -> None:
        self._inflater = _Inflater(self._content, self._png.data)
        self._next, self._before = 0, b""

    def _decode_rows(self, count: int) -> NDArray[Any]:
        header = self._png.header
        raw = self._inflater.read(count * self._stride)
        _check_filters(raw, [(count, self._stride)])
        if self._before:
            raw = b"\0" + self._before + raw
            block = _decode(header, count + 1, raw)[1:]
        else:
            block = _decode(header, count, raw)
        self._before = block[-1].astype(block.dtype.newbyteorder(">")).tobytes()
        self._next += count
        if self._next == header.height:
            self._inflater.finish()
            self._content.check_unchanged()
        return block


class _Inflater:
    """Decompresses the image data, and compares the checksum of every chunk."""

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
        """Check that nothing follows but the end of the stream, whose checksum is compared."""
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
    for offset, length in chunks:
        checksum, end = zlib.crc32(b"IDAT"), offset + length
        for start in range(offset, end, _BLOCK):
            block = content.read(start, min(_BLOCK, end - start))
            checksum = zlib.crc32(block, checksum)
            yield block
        _compare(content, checksum, end, b"IDAT")


def _check_chunk(content: Content, kind: bytes, position: int, length: int) -> None:
    checksum, end = zlib.crc32(kind), position + 8 + length
    for start in range(position + 8, end, _BLOCK):
        checksum = zlib.crc32(content.read(start, min(_BLOCK, end - start)), checksum)
    _compare(content, checksum, end, kind)


def _compare(content: Content, checksum: int, offset: int, kind: bytes) -> None:
    if content.read(offset, 4) != checksum.to_bytes(4, "big"):
        raise damaged(f"the checksum of its part {ascii(kind)[2:-1]} is wrong")


def _has_metadata(kind: bytes, start: bytes) -> bool:
    if kind == b"iTXt":
        return start.startswith(_XMP_COMMENT)
    if kind in (b"tEXt", b"zTXt"):
        return start.startswith(_EXIF_COMMENT)
    return kind in _KEPT


def _check_filters(raw: bytes, passes: list[tuple[int, int]]) -> None:
    start = 0
    for rows, stride in passes:
        end = start + rows * stride
        if raw[start:end:stride].translate(None, b"\0\1\2\3\4"):
            raise damaged("an unknown filter of a row")
        start = end


def _decode(header: Header, height: int, raw: bytes) -> NDArray[Any]:
    """Undo the filters of rows; returns ``(height, W, C)`` with alpha as stored."""
    content = _assemble(header, height, raw, [])
    if header.depth == 16:
        if header.color == _GREY:
            pixels = np.asarray(PngImageFile(io.BytesIO(content))).astype(np.uint16)
        else:
            imagecodecs = import_extra("imagecodecs", "photo", "reading 16-bit colour PNG")
            pixels = imagecodecs.png_decode(content)
    else:
        pixels = np.asarray(PngImageFile(io.BytesIO(content)))
    return pixels.reshape(height, header.width, header.channels)


def _assemble(header: Header, height: int, raw: bytes, others: list[bytes]) -> bytes:
    """Return a PNG of filtered rows, which are stored without compression."""
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
    """Return a part of a PNG, with its length and checksum."""
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
