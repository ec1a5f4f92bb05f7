"""Write WebP, OpenEXR and Radiance HDR files, which are encoded as a whole."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastmef.data.extras import import_extra
from fastmef.data.files import display, reason
from fastmef.data.linear import decode_radiance
from fastmef.data.output import Picture, WholeImage
from fastmef.errors import OutputError

_WEBP_METHOD = 4


class WebpSink(WholeImage):
    """Write a WebP, lossy or lossless."""

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
    """Decode display-referred rows to the scene-linear radiance of a file."""

    def prepare(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if pixels.dtype.kind == "u":
            pixels = pixels / np.float32(np.iinfo(pixels.dtype).max)
        radiance = decode_radiance(pixels, self.picture.metadata.exposure_scale)
        if self.picture.stored == np.float16:
            radiance = radiance.clip(None, np.finfo(np.float16).max)
        return radiance.astype(self.picture.stored)


class ExrSink(_LinearImage):
    """Write an OpenEXR file of scanlines, half or float; invalid pixels are 0."""

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
    """Write a Radiance HDR file, RGBE with run-length encoding."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        self.resident_bytes = 2 * self.pixels.nbytes

    def finish(self) -> None:
        codecs = import_extra("imagecodecs", "hdr", "writing Radiance HDR files")
        pixels = np.repeat(self.pixels, 3, axis=2) if self.picture.channels == 1 else self.pixels
        self.file.write(codecs.rgbe_encode(pixels))
