"""Photographs in and out of files: JPEG, PNG, TIFF and WebP of 8 bits a channel."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fastmef.data import directories, jpeg, png
from fastmef.data.damage import Fault, damaged
from fastmef.data.exif import ORIENTATION, carried_exif
from fastmef.data.files import atomic_write, check_output, display, reason
from fastmef.data.kinds import ALLOWED, check_kind
from fastmef.data.libtiff import collect_errors
from fastmef.data.limits import MAX_PROFILE, excess_pixels, max_image_bytes
from fastmef.data.reading import read_bytes
from fastmef.data.tiff import check_strips
from fastmef.data.webp import is_webp, webp_size
from fastmef.errors import InputError, OutputError

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},  # 4:4:4: full colour resolution
    "PNG": {},
    "TIFF": {},
    "WEBP": {"quality": 95, "method": 4},
}
_LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
_LONGEST_JPEG_EXIF = 65533

# What an EXIF orientation asks for: (rows become columns, rows reversed, columns reversed).
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_STRIP_ROWS = 256


@dataclass(frozen=True)
class Photo:
    """A photograph as read from a file, turned upright."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    icc_profile: bytes | None
    exif: bytes | None
    """For writing with ``pixels``: orientation 1, no thumbnail."""
    path: Path


def read_image(path: str | os.PathLike[str]) -> Photo:
    """Read a photograph and turn it upright as its EXIF orientation says.

    Grey images are accepted and repeated over R, G and B; a grey ICC profile does not fit the
    result and is dropped. Of the several pictures in a camera's multi-picture JPEG the first, the
    photograph itself, is read. Pipes are read to their end.

    The whole file is checked: whatever a checksum, the size of its data, libjpeg, libtiff or
    libwebp finds damaged is refused, warnings included. Damaged EXIF alone is dropped. The function
    may be called from several threads.

    Raises:
        InputError: there is no such file, it cannot be read, it is damaged or truncated, it is no
            JPEG, PNG, TIFF or WebP, or it is one of a kind that is not supported: 16-bit or
            floating point, palette, alpha channel, CMYK, several pages or frames, camera raw; it
            has more than 500 million pixels or far more than its bytes can hold (the environment
            variable ``FASTMEF_MAX_PIXELS`` sets another limit), or a JPEG has more than 50 scans.
    """
    path = Path(path)
    content = read_bytes(path, max_image_bytes(), ALLOWED)
    try:
        return _decode(content, path)
    except Fault as fault:
        raise InputError(f"{display(path)}: {fault}") from fault
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{display(path)}: {reason(error)}") from error
    except Exception as error:  # Pillow's decoders report damage by errors of every type
        raise InputError(f"{display(path)}: damaged, or of an unsupported kind") from error


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[np.uint8],
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
    force: bool = False,
) -> None:
    """Write an 8-bit RGB image of the kind that the file's ending names, complete or not at all.

    JPEG is written with quality 95 and full colour resolution (4:4:4), WebP with quality 95, PNG
    and TIFF without loss. An EXIF block of more than 64 KiB does not fit a JPEG and is left out
    there.

    Args:
        path: ends in .jpg, .jpeg, .png, .tif, .tiff or .webp.
        pixels: (H, W, 3), uint8.
        icc_profile: embedded as it is.
        exif: embedded as it is; :attr:`Photo.exif` fits.
        force: replace an existing file.

    Raises:
        OutputError: unknown ending, existing file, unwritable folder, full disk, or an image too
            large for the format.
        InputError: ``pixels`` is something else.
    """
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
        or 0 in pixels.shape
    ):
        raise InputError(f"pixels must be a (H, W, 3) uint8 array, got {describe(pixels)}")
    check_image_output(path, (pixels.shape[1], pixels.shape[0]), force)
    kind = _kind(path)
    options = dict(_SAVE_OPTIONS[kind])
    if icc_profile:
        options["icc_profile"] = icc_profile
    if exif and not (kind == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF):
        options["exif"] = exif
    encoded = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(encoded, format=kind, **options)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {display(path)}: {reason(error)}") from error
    atomic_write(path, encoded.getbuffer(), force)


def check_image_output(
    path: str | os.PathLike[str], size: tuple[int, int] | None = None, force: bool = False
) -> None:
    """Find out before any work is done whether an image (width, height) can be written to ``path``.

    Raises:
        OutputError: see :func:`write_image`.
    """
    kind = _kind(path)
    limit = _LARGEST_SIDE.get(kind)
    if size and limit and max(size) > limit:
        raise OutputError(
            f"{display(path)}: {size[0]}×{size[1]} pixels do not fit a {kind} file, whose sides"
            f" are at most {limit}; use .png or .tif"
        )
    check_output(path, force)


def same_profile(photos: Sequence[Photo]) -> bool:
    """Whether all photographs are in one colour space, going by their embedded ICC profiles."""
    return len({photo.icc_profile for photo in photos}) <= 1


def describe(value: object) -> str:
    """An argument in a few words, for messages."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}, dtype {value.dtype}"
    return type(value).__name__


def _kind(path: str | os.PathLike[str]) -> str:
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise OutputError(
            f"cannot write {display(path)}: the name must end in one of {', '.join(ENDINGS)}"
        )
    return ENDINGS[ending]


def _decode(content: bytes, path: Path) -> Photo:
    if content.startswith(png.SIGNATURE):
        image, pixels, exif = _decode_png(content)
    elif content.startswith(jpeg.SIGNATURE):
        image, pixels, exif = _decode_jpeg(content)
    elif content.startswith(directories.SIGNATURES):
        image, pixels, exif = _decode_tiff(content)
    elif is_webp(content):
        image, pixels, exif = _decode_webp(content)
    else:
        raise Fault(f"not an image that can be read; allowed: {ALLOWED}")
    # Pillow has turned a TIFF, and forgotten its orientation, when its pixels were loaded.
    pixels = _upright(pixels, exif.get(ORIENTATION, 1))
    profile = image.info.get("icc_profile") or None
    if profile is not None and len(profile) > MAX_PROFILE:
        raise Fault(f"a colour profile of more than {MAX_PROFILE:,} bytes")
    if profile is not None and profile[16:20] != b"RGB ":
        profile = None
    try:
        carried = carried_exif(exif, pixels.shape[1], pixels.shape[0])
    except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
        carried = None
    return Photo(pixels, profile, carried, path)


_Decoded = tuple[Image.Image, NDArray[np.uint8], Image.Exif]


# The classes are called directly: Image.open() compares sizes with a limit of the whole process.


def _decode_png(content: bytes) -> _Decoded:
    parsed = png.parse_png(content)
    image = PngImageFile(io.BytesIO(parsed.without_comments()))
    check_kind(image, content)
    parsed.check_pixels()
    profile = parsed.icc_profile()
    if profile is not None:
        image.info["icc_profile"] = profile
    return image, _pixels(image), _load_exif(image)


def _decode_jpeg(content: bytes) -> _Decoded:
    jpeg.check_jpeg(content)
    image = JpegImageFile(io.BytesIO(content))
    check_kind(image, content)
    return image, jpeg.decode_jpeg(content), _load_exif(image)


def _decode_tiff(content: bytes) -> _Decoded:
    directories.check_directory(content)
    image = TiffImageFile(io.BytesIO(content))
    check_kind(image, content)
    check_strips(image, content)
    exif = _load_exif(image)  # now: it cannot be read when the pixels are loaded
    with collect_errors() as errors:
        pixels = _pixels(image)
    if errors:
        raise damaged(f"{errors[0]} reports an error")
    return image, pixels, exif


def _decode_webp(content: bytes) -> _Decoded:
    excess = excess_pixels(*webp_size(content), len(content))
    if excess is not None:
        raise Fault(excess)
    image = WebPImageFile(io.BytesIO(content))
    check_kind(image, content)
    return image, _pixels(image), _load_exif(image)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Decode an image of mode RGB or L to (H, W, 3), with one strip at a time copied twice."""
    image.load()
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        strip = np.asarray(image.crop((0, top, image.width, bottom)))
        pixels[top:bottom] = strip if strip.ndim == 3 else strip[..., None]
    return pixels


def _upright(pixels: NDArray[np.uint8], orientation: Any) -> NDArray[np.uint8]:
    swap, flip_rows, flip_columns = _UPRIGHT.get(orientation, (False, False, False))
    turned = pixels.swapaxes(0, 1) if swap else pixels
    turned = turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(turned)


def _load_exif(image: Image.Image) -> Image.Exif:
    """Return all directories, as far as they are sound."""
    try:
        if not directories.exif_is_bounded(image.info.get("exif", b"")):
            return Image.Exif()
        exif = image.getexif()
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(directory)
        hash(exif.get(ORIENTATION))
        return exif
    except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
        return Image.Exif()
