"""Blending in a Laplacian pyramid, band by band (Mertens, Kautz, Van Reeth 2007)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def pyramid_blend(weights: Tensor, exposures: Tensor) -> Tensor:
    r"""Every band of detail is mixed by weights as smooth as the band.

    .. math:: L_l(F) = \sum_k G_l(W_k)\, L_l(I_k), \qquad F = \mathrm{collapse}(L_0, L_1, \dots)

    with Gaussian pyramids G and Laplacian pyramids L, continued by the border pixels, down to
    :math:`\lfloor \log_2 \min(H, W) \rfloor` halvings. Unlike the plain weighted sum the result
    can leave the range of the exposures, and is clamped to [0, 1].

    The binomial window has 4 taps instead of the usual 5, so that each coarse pixel lies in the
    middle of its 2×2 block. With every second pixel of a 5-tap mean each level moves half a pixel
    towards the top left, and the coarsest ones see little but that corner of the weights.

    Args:
        weights: ``(B, K, H, W)``, summing to 1 over K.
        exposures: ``(B, K, C, H, W)`` in [0, 1].

    Returns:
        ``(B, C, H, W)`` in [0, 1]. Exposures that are all alike, or constant weights, give exactly
        the weighted sum.

    Source: T. Mertens, J. Kautz, F. Van Reeth, "Exposure Fusion", Pacific Graphics 2007.
    """
    levels = min(exposures.shape[-2:]).bit_length() - 1
    # One exposure at a time: K pyramids at once would be the largest thing in memory.
    bands = _weighted_bands(weights[:, :1], exposures[:, 0], levels)
    for k in range(1, exposures.shape[1]):
        more = _weighted_bands(weights[:, k : k + 1], exposures[:, k], levels)
        bands = [band + term for band, term in zip(bands, more, strict=True)]
    blended = bands.pop()
    while bands:
        band = bands.pop()
        blended = band + expand(blended, band.shape[-2:])
    return blended.clamp(0, 1)


def _weighted_bands(weight: Tensor, image: Tensor, levels: int) -> list[Tensor]:
    """``G_l(W) L_l(I)`` of one exposure, finest first."""
    bands = []
    for _ in range(levels):
        coarse = reduce(image)
        bands.append(weight * (image - expand(coarse, image.shape[-2:])))
        weight, image = reduce(weight), coarse
    return [*bands, weight * image]


def reduce(images: Tensor) -> Tensor:
    """Half the size by the binomial window [1 3 3 1]/8: ``(B, C, ⌈H/2⌉, ⌈W/2⌉)``."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1 + width % 2, 1, 1 + height % 2), mode="replicate")
    rows = _binomial(*(padded[..., i : i + padded.shape[-2] - 2 : 2, :] for i in range(4)))
    return _binomial(*(rows[..., i : i + rows.shape[-1] - 2 : 2] for i in range(4)))


def expand(images: Tensor, size: Sequence[int]) -> Tensor:
    """Twice the size by the same window, [1 3]/4 and [3 1]/4 in turn, cropped to ``size``."""
    doubled = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., : size[0], : size[1]]


def _binomial(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return (a + 3 * (b + c) + d) / 8
