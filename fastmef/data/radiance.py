"""Reading linear radiance from Radiance RGBE (.hdr) and OpenEXR (.exr) files."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.files import display
from fastmef.data.limits import max_image_bytes
from fastmef.data.reading import read_bytes
from fastmef.errors import InputError, MissingExtraError

RADIANCE_ENDINGS = (".hdr", ".exr")

# Chromaticities of red, green, blue and white, x and y each: sRGB's, which are EXR's default.
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_NEEDED = "a Radiance (.hdr) or OpenEXR (.exr) file"


def read_radiance(
    path: str | os.PathLike[str], max_pixels: int | None = None
) -> NDArray[np.float32]:
    """Return the linear radiance ``(H, W, 3)`` of an HDR file, in the primaries of sRGB.

    Args:
        path: ends in .hdr or .exr. Values may be negative where the primaries of an EXR file reach
            beyond sRGB.
        max_pixels: a larger picture is reduced to about this many pixels, by the mean of linear
            light over areas.

    Raises:
        InputError: there is no such file, it cannot be read, it is damaged, or it holds NaN or
            infinite values.
        MissingExtraError: OpenCV or OpenEXR is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in RADIANCE_ENDINGS:
        raise InputError(f"{display(path)}: the name ends in {ending!r}; needed: {_NEEDED}")
    # OpenEXR opens the file itself, but its errors do not say that there is none.
    content = read_bytes(path, max_image_bytes(), _NEEDED)
    image = _read_exr(path) if ending == ".exr" else _decode_hdr(path, content)
    if not np.isfinite(image).all():
        raise InputError(f"{display(path)}: holds NaN or infinite values; radiance must be finite")
    if max_pixels is not None and (pixels := image.shape[0] * image.shape[1]) > max_pixels:
        scale = (max_pixels / pixels) ** 0.5
        size = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
        image = reduce_area(image, *size)
    return image


def reduce_area(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Reduce ``(H, W, 3)`` to ``(height, width, 3)`` by the mean over areas."""
    return _import("cv2").resize(image, (width, height), interpolation=_import("cv2").INTER_AREA)


def _import(name: str) -> Any:
    """Import OpenCV or OpenEXR, which are installed on request only."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            "reading HDR files needs OpenCV and OpenEXR: pip install 'fastmef[hdr]'"
        ) from error


def _decode_hdr(path: Path, content: bytes) -> NDArray[np.float32]:
    cv2 = _import("cv2")
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # OpenCV reports damage in either way
        image = None
    if image is None or image.dtype != np.float32:
        raise InputError(f"{display(path)}: damaged, or not a Radiance RGBE file")
    return np.ascontiguousarray(image[..., ::-1])


def _read_exr(path: Path) -> NDArray[np.float32]:
    """Return linear sRGB. The two white points are matched by scaling RGB alone."""
    openexr = _import("OpenEXR")
    try:
        with openexr.File(str(path)) as file:
            chromaticities = file.header().get("chromaticities", _SRGB)
            channels = file.channels()
            joined = next((name for name in ("RGBA", "RGB") if name in channels), None)
            if joined is not None:
                image = channels[joined].pixels[..., :3]
            else:
                image = np.stack([channels[name].pixels for name in "RGB"], axis=-1)
            matrix = np.linalg.solve(_rgb_to_xyz(_SRGB), _rgb_to_xyz(chromaticities))
    except KeyError as error:
        raise InputError(f"{display(path)}: an OpenEXR file without R, G and B channels") from error
    except Exception as error:  # the binding raises RuntimeError and others
        raise InputError(f"{display(path)}: damaged, or not an OpenEXR file") from error
    matrix /= matrix.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinite values are refused later
        return image.astype(np.float32) @ matrix.T.astype(np.float32)


def _rgb_to_xyz(chromaticities: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the matrix from linear RGB of these primaries to XYZ; white has Y = 1."""
    x, y = np.reshape(chromaticities, (4, 2)).T
    primaries = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return primaries[:, :3] * np.linalg.solve(primaries[:, :3], primaries[:, 3])
