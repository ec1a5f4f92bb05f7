"""Read scene-linear radiance from Radiance RGBE (.hdr) and OpenEXR (.exr) files."""

from __future__ import annotations

import os
import re
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.alpha import split_alpha
from fastmef.data.damage import Fault, damaged, report_faults
from fastmef.data.decoded import DecodedSource, Rows
from fastmef.data.extras import import_extra
from fastmef.data.files import display
from fastmef.data.kinds import check_size, refuse
from fastmef.data.limits import max_image_bytes, max_whole_bytes
from fastmef.data.metadata import Metadata
from fastmef.data.reading import Content
from fastmef.errors import FastmefError, InputError

RADIANCE_ENDINGS = (".hdr", ".exr")

# Chromaticities (x, y) of red, green, blue and white in sRGB, which are EXR's default.
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
HDR_SIGNATURES = (b"#?RADIANCE", b"#?RGBE")
EXR_SIGNATURE = b"v/1\x01"

_RESOLUTION = re.compile(rb"-Y (\d{1,9}) \+X (\d{1,9})\n")
_LONGEST_HEADER = 1 << 16
_HALF, _FLOAT = 1, 2  # OpenEXR's pixel types
_NEEDED = "a Radiance (.hdr) or OpenEXR (.exr) file"


def read_radiance(
    path: str | os.PathLike[str], max_pixels: int | None = None
) -> NDArray[np.float32]:
    """Return the linear radiance ``(H, W, 3)`` of an HDR file, in the primaries of sRGB.

    Values may be negative if the primaries of an EXR file have a wider gamut than sRGB.

    Args:
        path: a path that ends in .hdr or .exr.
        max_pixels: a larger image is reduced to about this many pixels, with the mean of linear
            light over areas.

    Raises:
        InputError: there is no such file, it cannot be read, it is damaged, or it holds NaN or
            infinite values.
        MissingExtraError: imagecodecs, OpenEXR or OpenCV is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in RADIANCE_ENDINGS:
        raise InputError(f"{display(path)}: the name ends in {ending!r}; needed: {_NEEDED}")
    with closing(Content(path, max_image_bytes(), _NEEDED)) as content:
        with report_faults(content.name):
            source = open_exr(content, masked=False) if ending == ".exr" else open_hdr(content)
        image = source.rows(0, source.height)[0].astype(np.float32)
    if source.channels == 1:
        raise InputError(f"{display(path)}: an OpenEXR file without R, G and B channels")
    if max_pixels is not None and (pixels := image.shape[0] * image.shape[1]) > max_pixels:
        scale = (max_pixels / pixels) ** 0.5
        size = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
        image = reduce_area(image, *size)
    return image


def reduce_area(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Reduce ``(H, W, 3)`` to ``(height, width, 3)`` with the mean over areas."""
    cv2 = import_extra("cv2", "hdr", "reducing radiance")
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def open_hdr(content: Content) -> DecodedSource:
    """Open a Radiance HDR file.

    Raises:
        Fault: its header is damaged.
        MissingExtraError: imagecodecs is not installed.
    """
    _codecs()
    width, height = _hdr_size(content.read(0, _LONGEST_HEADER))
    check_size(width, height, content.size)

    def decode() -> Rows:
        return _decode_hdr(content.whole(max_whole_bytes())), None

    return DecodedSource(
        content.name, (height, width, 3), np.float32, False, Metadata(), decode,
        content.size, linear=True, release=content.close,
    )  # fmt: skip


def open_exr(content: Content, masked: bool = True) -> DecodedSource:
    """Open an OpenEXR file with the channels R, G and B, or Y alone, in half or float.

    A channel A is the mask of valid pixels if ``masked``, and ignored otherwise.

    Raises:
        Fault: the file is damaged, or has other channels.
        MissingExtraError: OpenEXR is not installed.
    """
    if content.is_pipe:
        raise Fault("an OpenEXR file cannot be read from a pipe")
    names, dtype, height, width = _exr_layout(content)
    check_size(width, height, content.size)
    if not masked and "A" in names:
        names.remove("A")
    has_alpha = "A" in names
    channels = 3 if "R" in names else 1

    def decode() -> Rows:
        stored = _exr_channels(content.path, names)
        content.check_unchanged()
        pixels, valid = split_alpha(stored, associated=True)
        return pixels, valid

    return DecodedSource(
        content.name, (height, width, channels), dtype, has_alpha, Metadata(), decode,
        width * height * len(names) * dtype.itemsize * 5 // 4, linear=True, release=content.close,
    )  # fmt: skip


def _codecs() -> Any:
    """Return the module imagecodecs, which decodes Radiance files."""
    return import_extra("imagecodecs", "hdr", "reading Radiance HDR files")


def _openexr() -> Any:
    """Return the module OpenEXR."""
    return import_extra("OpenEXR", "hdr", "reading OpenEXR files")


def _hdr_size(start: bytes) -> tuple[int, int]:
    """Return width and height from the header of a Radiance HDR file."""
    header, _, rest = start.partition(b"\n\n")
    found = _RESOLUTION.match(rest)
    if b"FORMAT=32-bit_rle_xyze" in header:
        raise refuse("a Radiance XYZE")
    if found is None:
        raise Fault("damaged, or not a Radiance RGBE file with rows from top to bottom")
    return int(found[2]), int(found[1])


def _decode_hdr(content: bytes) -> NDArray[np.float32]:
    """Decode a Radiance HDR file; return ``(H, W, 3)``."""
    try:
        return _codecs().rgbe_decode(content)
    except FastmefError:
        raise
    except Exception as error:
        raise Fault("damaged, or not a Radiance RGBE file") from error


def _exr_layout(content: Content) -> tuple[list[str], np.dtype[Any], int, int]:
    """Return the names of the channels that are read, their dtype, height and width."""
    try:
        with _openexr().File(str(content.path), header_only=True) as file:
            low, high = file.header()["dataWindow"]
    except FastmefError:
        raise
    except Exception as error:  # the binding raises RuntimeError and others
        raise Fault("damaged, or not an OpenEXR file") from error
    found = _exr_types(content.read(0, _LONGEST_HEADER))
    names = ["R", "G", "B"] if {"R", "G", "B"} <= found.keys() else ["Y"]
    if not found.keys() >= set(names):
        raise Fault("an OpenEXR file without R, G and B channels")
    names += ["A"] if "A" in found else []
    types = {found[name] for name in names}
    if types not in ({_HALF}, {_FLOAT}):
        raise refuse("an OpenEXR file of integers or of several types:")
    width, height = (int(high[axis]) - int(low[axis]) + 1 for axis in (0, 1))
    return names, np.dtype(np.float16 if types == {_HALF} else np.float32), height, width


def _exr_types(start: bytes) -> dict[str, int]:
    """Return the pixel type of every channel from the header.

    The module OpenEXR tells it only after decoding the pixels.

    Raises:
        Fault: a channel has fewer pixels than the image.
    """
    _, _, rest = start.partition(b"channels\0chlist\0")
    types = {}
    rest = rest[4:]
    while rest and not rest.startswith(b"\0"):
        name, _, rest = rest.partition(b"\0")
        if len(rest) < 16:
            raise damaged("its header is cut off")
        kind, _, across, down = struct.unpack("<iiii", rest[:16])
        if (across, down) != (1, 1):
            raise refuse("an OpenEXR file with subsampled channels:")
        types[name.decode("latin-1")] = kind
        rest = rest[16:]
    return types


def _exr_channels(path: Path, names: list[str]) -> NDArray[Any]:
    """Return ``(H, W, C)`` as stored, but with colour in the primaries of sRGB.

    The two white points are matched by scaling R, G and B.
    """
    try:
        with _openexr().File(str(path), separate_channels=True) as file:
            chromaticities = file.header().get("chromaticities", _SRGB)
            channels = file.channels()
            stored = np.stack([channels[name].pixels for name in names], axis=-1)
    except Exception as error:  # the binding raises RuntimeError and others
        raise Fault("damaged, or not an OpenEXR file") from error
    if "R" in names and tuple(chromaticities) != _SRGB:
        matrix = np.linalg.solve(_rgb_to_xyz(_SRGB), _rgb_to_xyz(chromaticities))
        matrix /= matrix.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite values are refused later
            for rows in stored:
                rows[:, :3] = rows[:, :3].astype(np.float32) @ matrix.T.astype(np.float32)
    return stored


def _rgb_to_xyz(chromaticities: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the matrix from linear RGB of these primaries to XYZ; white has Y = 1."""
    x, y = np.reshape(chromaticities, (4, 2)).T
    primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return primaries[:, :3] * np.linalg.solve(primaries[:, :3], primaries[:, 3])
