"""Convert the exposures of a bracket to the colour space of the first one."""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fastmef.data.damage import Fault, report_faults
from fastmef.data.decoded import Rows
from fastmef.data.extras import import_extra
from fastmef.data.metadata import Metadata

_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_MODES = {1: "L", 3: "RGB"}


class ConvertedSource:
    """A :class:`~fastmef.data.sources.Source` that converts its pixels to another colour space.

    Pixels without a profile are taken for sRGB. Pillow converts 8-bit pixels and imagecodecs all
    others, both with Little CMS, relative colorimetric with black point compensation.

    Args:
        source: the source to convert.
        profile: the ICC profile of the result; ``None`` is sRGB.

    Raises:
        InputError: a profile is damaged.
        MissingExtraError: imagecodecs is needed and not installed.
    """

    def __init__(self, source: Any, profile: bytes | None) -> None:
        self._source, self._to = source, profile
        self.name, self.height, self.width = source.name, source.height, source.width
        self.channels, self.dtype = source.channels, source.dtype
        self.has_alpha, self.linear = source.has_alpha, source.linear
        self.streams = source.streams
        before = source.metadata
        self.metadata = Metadata(
            profile, before.exif, before.xmp, before.iptc, before.resolution, before.exposure_scale
        )
        with report_faults(self.name):
            if self.dtype == np.uint8:
                _ = self._transform
            else:
                import_extra("imagecodecs", "photo", "converting colours of more than 8 bits")

    @property
    def resident_bytes(self) -> int:
        return int(self._source.resident_bytes)

    def rows(self, top: int, bottom: int) -> Rows:
        pixels, valid = self._source.rows(top, bottom)
        with report_faults(self.name):
            return self._convert(pixels), valid

    def close(self) -> None:
        self._source.close()

    @cached_property
    def _transform(self) -> ImageCms.ImageCmsTransform:
        mode = _MODES[self.channels]
        try:
            return ImageCms.ImageCmsTransform(
                _open(self._source.metadata.icc_profile, self.channels),
                _open(self._to, self.channels), mode, mode, _INTENT, flags=_FLAGS,
            )  # fmt: skip
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            raise Fault("its colour profile cannot be used") from error

    def _convert(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels in the colour space of the result."""
        if self.dtype == np.uint8:
            picture = Image.fromarray(
                np.ascontiguousarray(np.squeeze(pixels, 2))
                if self.channels == 1
                else np.ascontiguousarray(pixels)
            )
            return np.asarray(self._transform.apply(picture)).reshape(pixels.shape)
        codecs = import_extra("imagecodecs", "photo", "converting colours of more than 8 bits")
        space = {1: "gray", 3: "rgb"}[self.channels]
        values = np.ascontiguousarray(pixels)
        half = values.dtype == np.float16
        converted = codecs.cms_transform(
            values.astype(np.float32) if half else values,
            _bytes(self._source.metadata.icc_profile, self.channels),
            _bytes(self._to, self.channels),
            colorspace=space, outcolorspace=space, intent=int(_INTENT), flags=int(_FLAGS),
        )  # fmt: skip
        return converted.astype(self.dtype).reshape(pixels.shape)


def convert_to_first(sources: list[Any]) -> list[Any]:
    """Return the sources, converted to the colour space of the first one if theirs differs.

    Raises:
        InputError: a profile is damaged, or some grey images have a profile and some have none.
    """
    first = sources[0].metadata.icc_profile
    return [
        source if _same(source.metadata.icc_profile, first) else ConvertedSource(source, first)
        for source in sources
    ]


def _same(one: bytes | None, other: bytes | None) -> bool:
    """Return whether two profiles describe the same colours."""
    # The header holds the time of creation and a checksum, which do not concern colours.
    return one == other or (one is not None and other is not None and one[128:] == other[128:])


def _open(profile: bytes | None, channels: int) -> ImageCms.ImageCmsProfile:
    """Return a profile for Little CMS."""
    return ImageCms.ImageCmsProfile(io.BytesIO(_bytes(profile, channels)))


def _bytes(profile: bytes | None, channels: int) -> bytes:
    """Return the profile; if there is none, return that of sRGB."""
    if profile is not None:
        return profile
    if channels == 1:
        raise Fault("grey without a colour profile, beside grey with one")
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
