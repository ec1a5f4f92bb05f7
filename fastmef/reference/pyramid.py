"""The Gaussian pyramid: the one filter that halves and doubles images in fastmef.

The binomial window has 4 taps instead of the usual 5, so that each coarse pixel lies in the middle
of its 2×2 block. With every second pixel of a 5-tap mean each level moves half a pixel towards the
top left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmef.reference.borders import repeat_border
from fastmef.reference.resampling import bilinear


def reduce(images: Tensor) -> Tensor:
    """Halve ``(..., H, W)`` by the binomial window [1 3 3 1]/8: ``(..., ⌈H/2⌉, ⌈W/2⌉)``.

    Border pixels are repeated.
    """
    height, width = images.shape[-2:]
    planes = images.reshape(-1, 1, height, width)
    padded = repeat_border(planes, 1, 1 + width % 2, 1, 1 + height % 2)
    rows = _binomial(*(padded[..., i : i + padded.shape[-2] - 2 : 2, :] for i in range(4)))
    halved = _binomial(*(rows[..., i : i + rows.shape[-1] - 2 : 2] for i in range(4)))
    return halved.reshape(*images.shape[:-2], *halved.shape[-2:])


def expand(images: Tensor, size: Sequence[int]) -> Tensor:
    """Double ``(..., h, w)`` by the same window, [1 3]/4 and [3 1]/4 in turn, cropped to ``size``.

    Border pixels are repeated.
    """
    planes = images.reshape(-1, 1, *images.shape[-2:])
    # Not F.interpolate: its rounding depends on the height, and a strip of rows must be doubled as
    # the whole image is.
    padded = repeat_border(planes, 1, 1, 1, 1)
    wide = _doubled(padded, -1)
    return _doubled(wide, -2)[..., : size[0], : size[1]].reshape(*images.shape[:-2], *size)


def halved_size(size: Sequence[int], levels: int) -> tuple[int, int]:
    """Return the height and width after ``levels`` halvings, each rounded up."""
    height, width = ((n - 1) // 2**levels + 1 for n in size)
    return height, width


def halvings_above(size: Sequence[int], small: Sequence[int]) -> int:
    """Return how many halvings leave ``size`` at least as large as ``small`` on both axes."""
    levels = 0
    while levels < (max(size) - 1).bit_length():
        halved = halved_size(size, levels + 1)
        if halved[0] < small[0] or halved[1] < small[1]:
            break
        levels += 1
    return levels


def shrink(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resample ``(..., H, W)`` to a smaller ``size`` by a triangular window.

    The window reaches as far on each side as a pixel of the result is wide: for half an even size
    it is that of :func:`reduce`, for the same size nothing changes.
    """
    return _resampled(images, size, True)


def enlarge(images: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge ``(..., h, w)`` to ``size`` bilinearly, as :func:`expand` does by a factor of 2."""
    return _resampled(images, size, False)


def _resampled(images: Tensor, size: Sequence[int], antialias: bool) -> Tensor:
    if images.shape[-2:] == tuple(size):
        return images
    planes = images.reshape(-1, 1, *images.shape[-2:])
    resampled = bilinear(planes, size, antialias)
    return resampled.reshape(*images.shape[:-2], *size)


def _doubled(padded: Tensor, dim: int) -> Tensor:
    """Double the inner pixels along an axis whose ends were repeated."""
    size = padded.shape[dim] - 2
    before, own, after = (padded.narrow(dim, start, size) for start in range(3))
    pairs = torch.stack(
        (0.75 * own + 0.25 * before, 0.75 * own + 0.25 * after), padded.ndim + dim + 1
    )
    return pairs.flatten(padded.ndim + dim, padded.ndim + dim + 1)


def _binomial(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return (a + 3 * (b + c) + d) / 8
