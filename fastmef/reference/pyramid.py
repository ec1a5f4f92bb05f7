"""The filters of the Gaussian pyramid, which halve and double images.

The binomial window has 4 taps instead of the usual 5, so that each coarse pixel lies in the middle
of its 2×2 block. Taking every second pixel of a 5-tap mean would shift each level half a pixel
towards the top left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmef.reference.borders import repeat_border
from fastmef.reference.resampling import bilinear


def reduce(images: Tensor) -> Tensor:
    """Halve ``(..., H, W)`` with the binomial window [1 3 3 1]/8 to ``(..., ⌈H/2⌉, ⌈W/2⌉)``.

    Border pixels are repeated.
    """
    height, width = images.shape[-2:]
    planes = images.reshape(-1, 1, height, width)
    padded = repeat_border(planes, 1, 1 + width % 2, 1, 1 + height % 2)
    rows = _binomial(*(padded[..., i : i + padded.shape[-2] - 2 : 2, :] for i in range(4)))
    halved = _binomial(*(rows[..., i : i + rows.shape[-1] - 2 : 2] for i in range(4)))
    return halved.reshape(*images.shape[:-2], *halved.shape[-2:])


def expand(images: Tensor, size: Sequence[int]) -> Tensor:
    """Double ``(..., h, w)`` with the taps [1 3]/4 and [3 1]/4 in turn, and crop it to ``size``.

    Border pixels are repeated.
    """
    planes = images.reshape(-1, 1, *images.shape[-2:])
    # F.interpolate is not used: its rounding depends on the height, but a strip of rows must be
    # bit-identical to the same rows of the whole image.
    padded = repeat_border(planes, 1, 1, 1, 1)
    wide = _doubled(padded, -1)
    return _doubled(wide, -2)[..., : size[0], : size[1]].reshape(*images.shape[:-2], *size)


def halved_size(size: Sequence[int], levels: int) -> tuple[int, int]:
    """Return the height and width after ``levels`` halvings, each rounded up."""
    height, width = ((n - 1) // 2**levels + 1 for n in size)
    return height, width


def halvings_above(size: Sequence[int], small: Sequence[int]) -> int:
    """Return the number of halvings that leave ``size`` at least as large as ``small``."""
    levels = 0
    while levels < (max(size) - 1).bit_length():
        halved = halved_size(size, levels + 1)
        if halved[0] < small[0] or halved[1] < small[1]:
            break
        levels += 1
    return levels


def shrink(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resample ``(..., H, W)`` to a smaller ``size`` with a triangular window.

    The window extends on each side by the width of a pixel of the result. For half an even size it
    is the window of :func:`reduce`; the same size returns the images unchanged.
    """
    return _resampled(images, size, True)


def enlarge(images: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge ``(..., h, w)`` to ``size`` bilinearly, as :func:`expand` does by a factor of 2."""
    return _resampled(images, size, False)


def _resampled(images: Tensor, size: Sequence[int], antialias: bool) -> Tensor:
    """Resample ``(..., H, W)`` bilinearly; return the images unchanged if they have the size."""
    if images.shape[-2:] == tuple(size):
        return images
    planes = images.reshape(-1, 1, *images.shape[-2:])
    resampled = bilinear(planes, size, antialias)
    return resampled.reshape(*images.shape[:-2], *size)


def _doubled(padded: Tensor, dim: int) -> Tensor:
    """Double the pixels along ``dim``, which is padded by one pixel at both ends."""
    size = padded.shape[dim] - 2
    before, own, after = (padded.narrow(dim, start, size) for start in range(3))
    pairs = torch.stack(
        (0.75 * own + 0.25 * before, 0.75 * own + 0.25 * after), padded.ndim + dim + 1
    )
    return pairs.flatten(padded.ndim + dim, padded.ndim + dim + 1)


def _binomial(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Return the mean with the weights [1 3 3 1]/8."""
    return (a + 3 * (b + c) + d) / 8
