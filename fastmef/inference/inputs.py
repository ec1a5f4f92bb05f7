"""Which images can be fused with one another. Imports no torch: bad input is reported at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmef.data.files import display
from fastmef.data.images import Photo, describe, read_image
from fastmef.errors import InputError

Image: TypeAlias = NDArray[Any]  # uint8 or uint16
ImageLike: TypeAlias = "Image | Photo | str | os.PathLike[str]"


def check_bracket(images: Sequence[ImageLike]) -> list[Image]:
    """The images as arrays, paths read, if they can be fused with one another.

    Raises:
        InputError: see :func:`fastmef.fuse`.
    """
    if isinstance(images, (str, os.PathLike)) or not isinstance(images, (Sequence, np.ndarray)):
        raise InputError(f"images must be a list of arrays or paths, got {describe(images)}")
    if len(images) < 2:
        raise InputError(f"two or more images are needed, got {len(images)}")
    pixels, names = [], []
    for index, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)):
            image = read_image(image)
        if isinstance(image, Photo):
            names.append(display(image.path))
            pixels.append(image.pixels)
        else:
            names.append(f"image {index}")
            pixels.append(_check_array(image, names[-1]))
    for name, array in zip(names, pixels, strict=True):
        if array.dtype != pixels[0].dtype:
            raise InputError(
                f"all images must have one dtype: {names[0]} is {pixels[0].dtype},"
                f" {name} is {array.dtype}"
            )
        if array.shape != pixels[0].shape:
            raise InputError(
                f"all images must have one size: {names[0]} is {_size(pixels[0])} pixels,"
                f" {name} is {_size(array)}"
            )
    return pixels


def _check_array(image: object, name: str) -> Image:
    allowed = "needed: shape (H, W, 3), dtype uint8 or uint16"
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name} is a {type(image).__name__}; needed: a NumPy array or a path")
    if (
        image.dtype not in (np.uint8, np.uint16)
        or image.ndim != 3
        or image.shape[2] != 3
        or 0 in image.shape
    ):
        raise InputError(f"{name} has {describe(image)}; {allowed}")
    return image


def _size(image: Image) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
