"""JPEG, WebP, OpenEXR and Radiance HDR, which are encoded as a whole."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from fastmef.data.extras import import_extra
from fastmef.data.files import display, reason
from fastmef.data.linear import decode_radiance
from fastmef.data.metadata import Metadata
from fastmef.data.output import Picture, WholeImage
from fastmef.errors import OutputError

_LONGEST_SEGMENT = 65533  # bytes of a part of a JPEG
_XMP_NAME = 29
_APP0, _APP13, _APP15 = 0xE0, 0xED, 0xEF
_WEBP_METHOD = 4


class JpegSink(WholeImage):
    """A JPEG with full colour resolution (4:4:4)."""

    def __init__(self, picture: Picture, quality: int) -> None:
        super().__init__(picture)
        self._quality = quality
        self.resident_bytes = 2 * self.pixels.nbytes

    def finish(self) -> None:
        gray = self.picture.channels == 1
        content = simplejpeg.encode_jpeg(
            self.pixels,
            self._quality,
            "GRAY" if gray else "RGB",
            "Gray" if gray else "444",
            fastdct=False,
        )
        tables = _after_metadata(content)
        self.file.write(b"\xff\xd8" + _jpeg_metadata(self.picture.metadata, gray))
        self.file.write(memoryview(content)[tables:])


class WebpSink(WholeImage):
    """A WebP, lossy or not."""

    def __init__(self, picture: Picture, quality: int, lossless: bool) -> None:
        super().__init__(picture)
        self._options: dict[str, Any] = {"lossless": lossless, "quality": quality}
        self._options["method"] = _WEBP_METHOD
        self.resident_bytes = 6 * self.pixels.nbytes  # measured

    def finish(self) -> None:
        metadata, file = self.picture.metadata, io.BytesIO()
        pixels = self.pixels
        if self.picture.channels == 1:  # WebP has no grey
            pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=2)
        profile = None if self.picture.channels == 1 else metadata.icc_profile
        blocks = {"icc_profile": profile, "exif": metadata.exif, "xmp": metadata.xmp}
        self._options |= {name: block for name, block in blocks.items() if block}
        try:
            Image.fromarray(pixels).save(file, "WEBP", **self._options)
        except (OSError, ValueError) as error:
            message = f"cannot write {display(self.picture.path)}: {reason(error)}"
            raise OutputError(message) from error
        self.file.write(file.getbuffer())


class _LinearImage(WholeImage):
    """Scene-linear radiance, to which the display-referred rows are decoded."""

    def prepare(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if pixels.dtype.kind == "u":
            pixels = pixels / np.float32(np.iinfo(pixels.dtype).max)
        radiance = decode_radiance(pixels, self.picture.metadata.exposure_scale)
        if self.picture.stored == np.float16:
            radiance = radiance.clip(None, np.finfo(np.float16).max)
        return radiance.astype(self.picture.stored)


class ExrSink(_LinearImage):
    """An OpenEXR file of scanlines, half or float; invalid pixels are 0 as alpha asks for."""

    def __init__(self, picture: Picture, compression: str) -> None:
        super().__init__(picture)
        self._openexr = import_extra("OpenEXR", "hdr", "writing OpenEXR files")
        self._compression = getattr(self._openexr, f"{compression.upper()}_COMPRESSION")
        self.resident_bytes = 3 * self.pixels.nbytes

    def finish(self) -> None:
        picture, pixels = self.picture, self.pixels
        names = "RGB" if picture.channels == 3 else "Y"
        if picture.alpha:  # OpenEXR stores colour multiplied by alpha
            names += "A"
            pixels[..., :-1] *= pixels[..., -1:]
        channels = {
            name: np.ascontiguousarray(pixels[..., index]) for index, name in enumerate(names)
        }
        header = {"compression": self._compression, "type": self._openexr.scanlineimage}
        target = self.file.partial
        try:
            self._openexr.File(header, channels).write(str(target))
        except Exception as error:  # the binding raises RuntimeError and others
            message = f"cannot write {display(picture.path)}: {reason(error)}"
            raise OutputError(message) from error


class HdrSink(_LinearImage):
    """A Radiance HDR file, RGBE with run lengths."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        self.resident_bytes = 2 * self.pixels.nbytes

    def finish(self) -> None:
        codecs = import_extra("imagecodecs", "hdr", "writing Radiance HDR files")
        pixels = np.repeat(self.pixels, 3, axis=2) if self.picture.channels == 1 else self.pixels
        self.file.write(codecs.rgbe_encode(pixels))


def _jpeg_metadata(metadata: Metadata, gray: bool) -> bytes:
    """Return the application segments that Pillow writes into an image of one pixel.

    A block that does not fit a segment of 64 KiB is left out; a colour profile has several.
    """
    options: dict[str, Any] = {}
    if metadata.icc_profile:
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif and len(metadata.exif) <= _LONGEST_SEGMENT:
        options["exif"] = metadata.exif
    if metadata.xmp and len(metadata.xmp) + _XMP_NAME <= _LONGEST_SEGMENT:
        options["xmp"] = metadata.xmp
    if metadata.resolution:
        options["dpi"] = tuple(round(value) for value in metadata.resolution)
    file = io.BytesIO()
    Image.new("L" if gray else "RGB", (1, 1)).save(file, "JPEG", **options)
    content = file.getvalue()
    return content[2 : _after_metadata(content)] + _iptc_segment(metadata.iptc)


def _iptc_segment(block: bytes | None) -> bytes:
    """Return IPTC as Photoshop's image resource 0x0404, in the segment where readers look."""
    if not block:
        return b""
    data = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(block).to_bytes(4, "big") + block
    data += b"\0" * (len(block) % 2)
    if len(data) > _LONGEST_SEGMENT:
        return b""
    return bytes((0xFF, _APP13)) + (len(data) + 2).to_bytes(2, "big") + data


def _after_metadata(content: bytes) -> int:
    """Return where the first segment of a JPEG lies that is no application's."""
    position = 2
    while _APP0 <= content[position + 1] <= _APP15:
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return position
