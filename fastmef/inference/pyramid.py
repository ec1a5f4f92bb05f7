"""Blending in a Laplacian pyramid, band by band (Mertens, Kautz, Van Reeth 2007)."""

from __future__ import annotations

from torch import Tensor

from fastmef.reference.pyramid import expand, reduce


def pyramid_blend(weights: Tensor, exposures: Tensor) -> Tensor:
    r"""Every band of detail is mixed by weights as smooth as the band.

    .. math:: L_l(F) = \sum_k G_l(W_k)\, L_l(I_k), \qquad F = \mathrm{collapse}(L_0, L_1, \dots)

    with Gaussian pyramids G and Laplacian pyramids L, continued by the border pixels, down to
    :math:`\lfloor \log_2 \min(H, W) \rfloor` halvings. Unlike the plain weighted sum the result
    can leave the range of the exposures, and is clamped to [0, 1].

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
