"""Photographs in and out of files: JPEG, PNG, TIFF and WebP of 8 bits a channel."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from fastmef.data.exif import ORIENTATION, carried_exif
from fastmef.data.files import atomic_write, check_output, display, reason
from fastmef.data.kinds import ALLOWED, check_kind
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

_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"RIFF",
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
    photograph itself, is read.

    Raises:
        InputError: there is no such file, it cannot be read, it is damaged or truncated, it is no
            JPEG, PNG, TIFF or WebP, or it is one of a kind that is not supported: 16-bit or
            floating point, palette, alpha channel, CMYK, several pages or frames, camera raw,
            more than 500 million pixels.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"{display(path)}: a folder; needed: {ALLOWED}")
    try:
        with path.open("rb") as file:
            return _decode(file, path)
    except FileNotFoundError as error:
        raise InputError(f"{display(path)}: no such file; needed: {ALLOWED}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders report damage by errors of every type
        cause = getattr(error, "strerror", None) or "the file is truncated or damaged"
        raise InputError(f"{display(path)}: cannot be read: {cause.lower()}") from error


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


def _decode(file: BinaryIO, path: Path) -> Photo:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, which does no harm here
        head = file.read(25)
        file.seek(0)
        image = _open(file, head, path)
        check_kind(image, head, path)
        exif = _load_exif(image)
        image.load()
        icc_profile = image.info.get("icc_profile") or None
        if image.mode == "L":
            image = image.convert("RGB")
        # Pillow has turned a TIFF, and forgotten its orientation, when its pixels were loaded.
        method = _UPRIGHT.get(exif.get(ORIENTATION, 1))
        if method is not None:
            image = image.transpose(method)
        try:
            carried = carried_exif(exif, image.width, image.height)
        except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
            carried = None
    if icc_profile is not None and icc_profile[16:20] != b"RGB ":
        icc_profile = None
    return Photo(np.array(image), icc_profile, carried, path)


def _load_exif(image: Image.Image) -> Image.Exif:
    """All directories now: once its pixels are loaded, a TIFF can no longer be asked for them."""
    try:
        exif = image.getexif()
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(directory)
        hash(exif.get(ORIENTATION))
        return exif
    except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
        return Image.Exif()


_OPENING = threading.Lock()


@contextmanager
def _own_pixel_limit() -> Iterator[None]:
    """Pillow's limit, a module variable, would refuse large photographs; ours is checked after."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open(file: BinaryIO, head: bytes, path: Path) -> Image.Image:
    try:
        with _own_pixel_limit():
            return Image.open(file, formats=("JPEG", "PNG", "TIFF", "WEBP"))
    except UnidentifiedImageError as error:
        problem = (
            "damaged, or of an unsupported kind"
            if head.startswith(_SIGNATURES)
            else "not an image that can be read"
        )
        raise InputError(f"{display(path)}: {problem}; allowed: {ALLOWED}") from error
