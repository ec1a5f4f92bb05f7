"""Check which images can be fused with one another.

This module does not import torch, so that bad input is reported without waiting for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmef.data.files import display
from fastmef.data.images import Photo, describe
from fastmef.data.sources import Source, open_source, open_sources
from fastmef.errors import InputError
from fastmef.inference.arrays import ArraySink, ArraySource

if TYPE_CHECKING:
    from torch import Tensor

Image: TypeAlias = NDArray[Any]
ImageLike: TypeAlias = "Image | Tensor | Photo | Source | str | os.PathLike[str]"

_DTYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
_NEEDED = (
    "needed: shape (H, W, 3) or (H, W), tensors (3, H, W) or (1, H, W), dtype uint8, uint16 or"
    " floating point"
)


@contextlib.contextmanager
def opened(images: Sequence[ImageLike]) -> Iterator[list[Source]]:
    """Open images that can be fused with one another as sources of rows; close them at the end.

    Raises:
        InputError: see :func:`fastmef.fuse`.
    """
    if isinstance(images, (str, os.PathLike)) or not (
        isinstance(images, (Sequence, np.ndarray)) or _is_tensor(images)
    ):
        raise InputError(f"images must be a list of arrays or paths, got {describe(images)}")
    if len(images) < 2:
        raise InputError(f"two or more images are needed, got {len(images)}")
    with contextlib.ExitStack() as stack:
        sources: list[Source] = []
        if all(isinstance(image, (str, os.PathLike)) for image in images):
            sources = open_sources(images)  # type: ignore[arg-type]
            for source in sources:
                stack.callback(source.close)
        else:
            for index, image in enumerate(images):
                sources.append(_source(image, f"image {index}"))
                stack.callback(sources[-1].close)
            check_sources(sources)
        yield sources


def check_sources(sources: Sequence[Source]) -> None:
    """Check that images have one size, dtype and number of channels.

    Raises:
        InputError: they do not.
    """
    first = sources[0]
    for source in sources[1:]:
        for what, of_first, of_source in (
            ("dtype", first.dtype, source.dtype),
            ("size", _size(first), _size(source)),
            ("number of channels", first.channels, source.channels),
        ):
            if of_source != of_first:
                raise InputError(
                    f"all images must have one {what}: {first.name} is {of_first},"
                    f" {source.name} is {of_source}"
                )


def check_bracket(images: Sequence[ImageLike]) -> list[Image]:
    """Return the images as arrays ``(H, W, C)`` if they can be fused with one another.

    Raises:
        InputError: see :func:`fastmef.fuse`.
    """
    with opened(images) as sources:
        return [source.rows(0, source.height)[0] for source in sources]


def like_inputs(sink: ArraySink, images: Sequence[ImageLike]) -> Any:
    """Return the image in ``sink`` as an array or tensor of the layout of ``images``."""
    first: Any = images[0]
    if _is_tensor(first):
        import torch

        return torch.from_numpy(sink.pixels).permute(2, 0, 1).contiguous().to(first.device)
    if isinstance(first, np.ndarray) and first.ndim == 2:
        return sink.pixels[..., 0]
    return sink.pixels


def _source(image: Any, name: str) -> Source:
    """Return a source of the rows of one image; ``name`` is for messages."""
    if isinstance(image, (str, os.PathLike)):
        return open_source(image)
    if hasattr(image, "rows"):
        return image  # a source already
    if isinstance(image, Photo):
        return ArraySource(display(image.path), image.pixels)
    array: Any = image
    if _is_tensor(image):
        array = _tensor_pixels(image)
    elif isinstance(image, np.ndarray) and image.ndim == 2:
        array = image[..., None]
    if not isinstance(array, np.ndarray):
        kind = type(image).__name__
        raise InputError(f"{name} is a {kind}; needed: an array, a tensor or a path")
    if (
        array.dtype not in _DTYPES
        or array.ndim != 3
        or array.shape[2] not in (1, 3)
        or 0 in array.shape
    ):
        shape, dtype = tuple(image.shape), str(image.dtype).removeprefix("torch.")
        raise InputError(f"{name} has shape {shape}, dtype {dtype}; {_NEEDED}")
    return ArraySource(name, array)


def _is_tensor(value: object) -> bool:
    return type(value).__module__ == "torch" and hasattr(value, "detach")


def _tensor_pixels(image: Any) -> Image:
    """Return a tensor ``(C, H, W)`` as an array ``(H, W, C)``; an empty array for other tensors."""
    if image.ndim != 3 or not hasattr(np, str(image.dtype).removeprefix("torch.")):
        return np.empty((0, 0, 0))
    return image.detach().cpu().permute(1, 2, 0).numpy()


def _size(source: Source) -> str:
    return f"{source.width}×{source.height} pixels"
