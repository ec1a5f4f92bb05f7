"""Compute the attributes of each exposure at each pixel, and γ, their normalised product."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.reference.borders import repeat_border
from fastmef.reference.filters import crop_to_centers, plane_mean, window_filter

ATTRIBUTES = ("variance", "gradient", "well_exposedness")


def parse_attributes(gamma: str) -> tuple[str, ...] | None:
    """Return the attributes in a name like ``"variance_gradient"``; ``None`` for other names."""
    rest, found = gamma, []
    for name in ATTRIBUTES:
        if rest == name or rest.startswith(name + "_"):
            found.append(name)
            rest = rest[len(name) + 1 :]
    return tuple(found) if found and not rest and "_".join(found) == gamma else None


def local_variance(
    images: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    border: str = "valid",
) -> Tensor:
    r"""Compute the windowed variance :math:`V = \max(w * I^2 - (w * I)^2,\ \text{floor})`."""
    # Zero padding takes part in the variance, so no constant may be subtracted from the image.
    centred = images if border == "zero" else images - plane_mean(images)
    mean = window_filter(centred, window, sigma, border)
    return (window_filter(centred * centred, window, sigma, border) - mean * mean).clamp_min(floor)


def sobel_gradient(images: Tensor) -> Tensor:
    r"""Compute the gradient magnitude :math:`S = \sqrt{(K_x * I)^2 + (K_y * I)^2}`.

    K are the 3×3 Sobel kernels, unnormalised (``[-1 0 1; -2 0 2; -1 0 1]``): S lies in [0, 3√2] for
    images in [0, 1]. Border pixels are repeated. The derivative of S is defined as 0 at S = 0.
    """
    height, width = images.shape[-2:]
    planes = repeat_border(images.reshape(-1, 1, height, width), 1, 1, 1, 1)
    across = planes[..., 2:] - planes[..., :-2]
    down = planes[..., 2:, :] - planes[..., :-2, :]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    squared = gx * gx + gy * gy
    flat = squared == 0
    magnitude = torch.where(flat, 0.0, squared.masked_fill(flat, 1.0).sqrt())
    return magnitude.reshape(images.shape)


def well_exposedness(images: Tensor, center: float = 0.5, sigma: float = 0.2) -> Tensor:
    r"""Compute :math:`E = e^{-(I - 0.5)^2 / (2 \cdot 0.2^2)}`, closeness to grey (Mertens 2007)."""
    return torch.exp(-((images - center) ** 2) / (2 * sigma * sigma))


def gamma_weights(
    exposures: Tensor,
    gamma: str = "variance_gradient",
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    eps: float = 1e-12,
) -> Tensor:
    r"""Compute :math:`\gamma_k = A_k / (\sum_j A_j + \varepsilon)` at the centres of windows.

    :math:`A_k` is the product of the attributes of exposure k that ``gamma`` names. ``exposures``
    is ``(B, K, H, W)`` grey; the result covers the ``"valid"`` window positions.
    """
    product: Tensor | None = None
    for name in parse_attributes(gamma) or ():
        if name == "variance":
            value = local_variance(exposures, window, sigma, floor)
        elif name == "gradient":
            value = crop_to_centers(sobel_gradient(exposures), window)
        else:
            value = crop_to_centers(well_exposedness(exposures), window)
        product = value if product is None else product * value
    if product is None:
        raise ValueError(f"unknown gamma {gamma!r}")
    return product / (product.sum(dim=1, keepdim=True) + eps)
