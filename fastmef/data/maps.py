"""Read and write weight maps and masks: one grey image for each photograph."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastmef.data.files import atomic_write, check_output, display, reason
from fastmef.data.images import describe, read_image
from fastmef.data.sources import open_source
from fastmef.errors import InputError, OutputError

Size = tuple[int, int]  # width, height

_ALLOWED = "an 8-bit or 16-bit grey PNG or TIFF"
_GREY = 0  # PNG's colour type
_BLACK = 15  # highest level that counts as black in a mask, because JPEG does not preserve 0


def map_paths(
    folder: str | os.PathLike[str], photographs: Sequence[str | os.PathLike[str]]
) -> list[Path]:
    """Return the paths of the photographs' weight maps in ``folder``, such as ``dark.weights.png``.

    Raises:
        InputError: two photographs would have the same path.
    """
    paths = [Path(folder) / f"{Path(name).stem}.weights.png" for name in photographs]
    for index, path in enumerate(paths):
        first = paths.index(path)
        if first < index:
            raise InputError(
                f"{display(photographs[first])} and {display(photographs[index])} would share the"
                f" weights {display(path)}; rename one of them"
            )
    return paths


def check_map_output(folder: str | os.PathLike[str], paths: Sequence[Path], force: bool) -> None:
    """Check before any work is done whether maps can be written into ``folder``.

    :func:`write_maps` creates a folder that does not exist.

    Raises:
        OutputError: see :func:`fastmef.data.files.check_output`; or ``folder`` is a file.
    """
    if os.path.isdir(folder):
        for path in paths:
            check_output(path, force)
    elif os.path.lexists(folder):
        raise OutputError(f"cannot write into {display(folder)}: it is not a folder")
    else:
        check_output(folder)


def write_maps(paths: Sequence[Path], maps: NDArray[np.floating], force: bool = False) -> None:
    """Write maps as 16-bit grey PNGs, each complete or not at all; 1 is white.

    The folder is created if it does not exist.

    Args:
        paths: K files in one folder.
        maps: ``(K, H, W)``, in [0, 1].
        force: replace existing files.

    Raises:
        OutputError: a file exists, the folder cannot be written, or the disk is full.
        InputError: ``maps`` has another shape or values out of range.
    """
    fits = isinstance(maps, np.ndarray) and maps.ndim == 3 and len(maps) == len(paths)
    if not fits or maps.size == 0 or not (maps.min() >= 0 and maps.max() <= 1):
        raise InputError(
            f"maps must be ({len(paths)}, H, W) with values in [0, 1], got {describe(maps)}"
        )
    for folder in {path.parent for path in paths}:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write into {display(folder)}: {reason(error)}") from error
    for path, plane in zip(paths, maps, strict=True):
        encoded = io.BytesIO()
        levels = (plane * 65535.0 + 0.5).astype(np.uint16)
        Image.fromarray(levels).save(encoded, format="PNG")
        atomic_write(path, encoded.getbuffer(), force)


def read_maps(paths: Sequence[Path], size: Size) -> NDArray[np.float32]:
    """Read maps that :func:`write_maps` has written, edited or not.

    Args:
        paths: K grey images of 8 or 16 bits.
        size: (width, height) that all must have.

    Returns:
        ``(K, height, width)``, float32 in [0, 1].

    Raises:
        InputError: a file cannot be read, is damaged, or has another kind or size.
    """
    return np.stack([_read_map(path, size) for path in paths])


def read_mask(path: str | os.PathLike[str], size: Size) -> NDArray[np.bool_]:
    """Read a mask of ``size`` (width, height) as bool ``(height, width)``, false where it is black.

    Levels up to 15 of 255 count as black, so that a mask may be a JPEG.

    Raises:
        InputError: see :func:`fastmef.data.images.read_image`; or the image has another size.
    """
    pixels = read_image(path).pixels
    _check_size(path, (pixels.shape[1], pixels.shape[0]), size)
    return np.asarray(pixels.max(axis=2) > _BLACK)


def enlarge_map(plane: NDArray[np.floating], size: Size) -> NDArray[np.float32]:
    """Resize a map ``(h, w)`` in [0, 1] bilinearly to ``size`` (width, height)."""
    picture = Image.fromarray(np.float32(plane)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture).clip(0, 1)


def _read_map(path: Path, size: Size) -> NDArray[np.float32]:
    """Read one map as float32 in [0, 1]."""
    with closing(open_source(path)) as source:
        if source.channels != 1 or source.has_alpha or source.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"{display(path)}: a colour, transparent or floating-point image;"
                f" needed: {_ALLOWED}"
            )
        levels = source.rows(0, source.height)[0][..., 0]
    _check_size(path, (levels.shape[1], levels.shape[0]), size)
    highest = np.iinfo(levels.dtype).max
    return levels.astype(np.float32) / np.float32(highest)


def _check_size(path: str | os.PathLike[str], size: Size, needed: Size) -> None:
    """Check that an image has the size that is ``needed``; ``path`` is for the message."""
    if size != needed:
        raise InputError(
            f"{display(path)}: {size[0]}×{size[1]} pixels; needed: {needed[0]}×{needed[1]}"
        )
