"""Open image files, and read their pixels later in strips of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fastmef.data import directories, jpeg, png, png_chunks, radiance, tiff, webp
from fastmef.data.damage import Fault, report_faults
from fastmef.data.decoded import Rows
from fastmef.data.kinds import ALLOWED
from fastmef.data.limits import max_image_bytes, max_whole_bytes
from fastmef.data.linear import encode_radiance, exposure_scale
from fastmef.data.metadata import Metadata
from fastmef.data.profiles import convert_to_first
from fastmef.data.reading import Content
from fastmef.errors import InputError


class Source(Protocol):
    """An opened image. Its header is read; its pixels are read on demand."""

    name: str
    """The path, for messages."""
    height: int
    width: int
    channels: int
    """1 (grey) or 3 (RGB). Sizes are those of the upright image."""
    dtype: np.dtype[Any]
    """uint8, uint16, float16 or float32. Floating-point values are display-referred, 1 is white."""
    has_alpha: bool
    """Whether :meth:`rows` returns a mask of the valid pixels."""
    streams: bool
    """Whether rows can be decoded without decoding the file as a whole."""
    linear: bool
    """Whether the file holds scene-linear radiance; :meth:`rows` returns it encoded."""

    @property
    def resident_bytes(self) -> int:
        """Return the peak memory of reading, in addition to the rows that are returned.

        Memory that the source holds already is not counted.
        """
        ...

    @property
    def metadata(self) -> Metadata:
        """Return the metadata for the fused file."""
        ...

    def rows(self, top: int, bottom: int) -> Rows:
        """Return pixels ``(bottom - top, W, C)`` and a mask of the valid ones, or ``None``.

        Reading is fastest from top to bottom without overlap. Earlier rows may be read again, which
        may decode the file from its start. The arrays may be views of memory of the source and must
        not be written to. Only one thread at a time may use a source.

        Raises:
            InputError: the file is damaged, or has changed since it was opened.
        """
        ...

    def close(self) -> None:
        """Close the file and free decoded pixels."""
        ...


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open an image file. Its content determines the format, not the ending of its name.

    Rows of OpenEXR and Radiance HDR files are scene-linear here; :func:`open_sources` encodes them.

    Raises:
        InputError: the file does not exist, cannot be read, is damaged, or is of a kind that is not
            supported (see ``docs/files.md``); or it has more than 500 million pixels, or far more
            than a photograph of its size (the environment variable ``FASTMEF_MAX_PIXELS`` sets
            another limit).
        MissingExtraError: the format needs a package that is not installed.
    """
    content = Content(path, max_image_bytes(), ALLOWED, max_whole_bytes())
    try:
        with report_faults(content.name):
            start = content.read(0, 12)
            for recognised, opener in _KINDS:
                if recognised(start):
                    return opener(content)
            raise Fault(f"not an image that can be read; allowed: {ALLOWED}")
    except BaseException:
        content.close()
        raise


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[Content], Source]], ...] = (
    (lambda start: start.startswith(png_chunks.SIGNATURE), png.open_png),
    (lambda start: start.startswith(jpeg.SIGNATURE), jpeg.open_jpeg),
    (lambda start: start.startswith(directories.SIGNATURES), tiff.open_tiff),
    (webp.is_webp, webp.open_webp),
    (lambda start: start.startswith(radiance.EXR_SIGNATURE), radiance.open_exr),
    (lambda start: start.startswith(radiance.HDR_SIGNATURES), radiance.open_hdr),
)


class _SharedScale:
    """The exposure scale of a bracket. Its files are decoded when the scale is first needed."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    @cached_property
    def value(self) -> float:
        return exposure_scale([source.rows(0, source.height)[0] for source in self._sources])


class EncodedSource:
    """Encode scene-linear radiance for the fusion; see :mod:`fastmef.data.linear`."""

    linear = True

    def __init__(self, source: Source, scale: _SharedScale) -> None:
        self._source, self._scale = source, scale
        self.name, self.height, self.width = source.name, source.height, source.width
        self.channels, self.dtype = source.channels, source.dtype
        self.has_alpha, self.streams = source.has_alpha, source.streams

    @property
    def resident_bytes(self) -> int:
        return self._source.resident_bytes

    @property
    def metadata(self) -> Metadata:
        return replace(self._source.metadata, exposure_scale=self._scale.value)

    def rows(self, top: int, bottom: int) -> Rows:
        light, valid = self._source.rows(top, bottom)
        return encode_radiance(light, self._scale.value).astype(self.dtype, copy=False), valid

    def close(self) -> None:
        self._source.close()


def open_sources(paths: Sequence[str | os.PathLike[str]]) -> list[Source]:
    """Open the exposures of a bracket, which must have one size, depth and number of channels.

    Pixels with another colour profile than the first file's are converted to its profile. Radiance
    is encoded as display-referred values with one scale for all frames. Reading the metadata or
    rows of radiance decodes all files to find that scale.

    Raises:
        InputError: see :func:`open_source`; or the images differ in size, depth or number of
            channels, or some are scene-linear and some are not.
    """
    sources: list[Source] = []
    try:
        for path in paths:
            sources.append(open_source(path))
            _check_alike(sources[0], sources[-1])
        if sources and sources[0].linear:
            scale = _SharedScale(sources)
            return [EncodedSource(source, scale) for source in sources]
        return convert_to_first(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _check_alike(first: Source, other: Source) -> None:
    """Check that two frames can be fused."""
    if (other.height, other.width) != (first.height, first.width):
        raise InputError(
            f"all images must have one size: {first.name} is {first.width}×{first.height}"
            f" pixels, {other.name} is {other.width}×{other.height}"
        )
    if other.linear != first.linear:
        raise InputError(
            f"scene-linear and display-referred images cannot be mixed: {first.name}, {other.name}"
        )
    if other.dtype != first.dtype:
        raise InputError(
            f"all images must have one depth: {first.name} is {first.dtype},"
            f" {other.name} is {other.dtype}"
        )
    if other.channels != first.channels:
        raise InputError(
            f"all images must be grey or all in colour: {first.name} has {first.channels}"
            f" channels, {other.name} has {other.channels}"
        )
