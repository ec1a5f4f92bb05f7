"""What the weights of the exposures are made of: variance, gradient, exposedness."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import ops, reference
from fastmef.functional._checks import (
    check_at_least,
    check_choice,
    check_float,
    check_gamma,
    check_number,
    check_planes,
    check_positive,
    check_stack,
    check_window,
)


def local_variance(
    images: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    border: str = "valid",
) -> Tensor:
    r"""Windowed variance.

    .. math:: V = \max(w * I^2 - (w * I)^2,\ \text{floor})

    Only the images are kept for the backward pass.

    Args:
        images: ``(..., H, W)``.
        window: odd window size in pixels; along a shorter axis the largest odd window that fits.
        sigma: Gaussian standard deviation in pixels; ``None`` is a flat (box) window.
        floor: smallest value returned, ≥ 0.
        border: ``"valid"`` (``H - window + 1`` rows), ``"zero"`` or ``"reflect"`` (``H`` rows).

    Returns:
        Variances, ≥ ``floor``.

    Raises:
        InputError: a tensor or option out of range.
    """
    check_planes("images", images)
    check_window(window, sigma)
    check_at_least("floor", floor, 0)
    check_choice("border", border, ("valid", "zero", "reflect"))
    return ops.filters.local_variance(
        images, window=window, sigma=sigma, floor=floor, border=border
    )


def sobel_gradient(images: Tensor) -> Tensor:
    r"""Gradient magnitude by the 3×3 Sobel operator, edges repeated, same size.

    .. math:: S = \sqrt{(K_x * I)^2 + (K_y * I)^2}, \quad
              K_x = \begin{pmatrix} -1&0&1 \\ -2&0&2 \\ -1&0&1 \end{pmatrix},\ K_y = K_x^T

    Args:
        images: ``(..., H, W)``.

    Returns:
        ``(..., H, W)``; where S = 0 its gradient is 0.

    Only the images are kept for the backward pass.
    """
    check_planes("images", images)
    return ops.filters.sobel_gradient(images)


def well_exposedness(images: Tensor, center: float = 0.5, sigma: float = 0.2) -> Tensor:
    r"""Closeness to mid-grey, :math:`E = e^{-(I - c)^2 / 2\sigma^2}` (Mertens et al. 2007).

    Args:
        images: any shape.
        center: the best exposed value c.
        sigma: its tolerance, > 0.
    """
    check_float("images", images)
    check_number("center", center)
    check_positive("sigma", sigma)
    # In halves the squares and the exponent would be rounded too, not only the result.
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    return reference.well_exposedness(wide, float(center), float(sigma)).to(images.dtype)


def gamma_weights(
    exposures: Tensor,
    attributes: str = "variance_gradient",
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    eps: float = 1e-12,
) -> Tensor:
    r"""How much each exposure counts at each pixel.

    .. math:: \gamma_k = \frac{A_k}{\sum_j A_j + \varepsilon}

    :math:`A_k` is the product of the chosen attributes of exposure k: V (:func:`local_variance`),
    S (:func:`sobel_gradient`), E (:func:`well_exposedness`).

    Only the exposures are kept for the backward pass.

    Args:
        exposures: grey, ``(B, K, H, W)``.
        attributes: a non-empty subset of ``variance``, ``gradient``, ``well_exposedness``, in this
            order, joined by ``_``.
        window, sigma, floor: of the local variance.
        eps: keeps 0/0 away where every exposure is flat.

    Returns:
        ``(B, K, H - window + 1, W - window + 1)``: the values at the centres of the windows, so
        that they meet the ``"valid"`` SSIM map. They sum to 1 over K, less where all A vanish.

    Source: arXiv 2510.21815.
    """
    check_stack("exposures", exposures)
    check_gamma(attributes)
    check_window(window, sigma)
    check_at_least("floor", floor, 0)
    check_at_least("eps", eps, 0)
    return ops.filters.gamma_weights(
        exposures, attributes=attributes, window=window, sigma=sigma, floor=floor, eps=eps
    )
