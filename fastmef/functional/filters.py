"""The attributes that weight exposures: local variance, gradient, well-exposedness, and γ."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import reference
from fastmef.functional._checks import (
    check_at_least,
    check_choice,
    check_float,
    check_number,
    check_planes,
    check_positive,
    check_window,
)
from fastmef.functional._gamma import Gamma, checked_gamma, custom_gamma
from fastmef.functional._images import check_exposures, to_luma
from fastmef.ops import filters as ops


def local_variance(
    images: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    border: str = "valid",
) -> Tensor:
    r"""Return the variance in a window around every pixel.

    .. math:: V = \max(w * I^2 - (w * I)^2,\ \text{floor})

    Only the images are saved for the backward pass.

    Args:
        images: ``(..., H, W)``, float16, bfloat16, float32 or float64 of any range.
        window: odd side of the window in pixels, at most 65535. Along a shorter axis the largest
            odd window that fits is used.
        sigma: standard deviation of the window's Gaussian in pixels; ``None`` is a flat (box)
            window.
        floor: smallest value returned, ≥ 0.
        border: ``"valid"`` (``H - window + 1`` rows), ``"zero"`` or ``"reflect"`` (``H`` rows).

    Returns:
        Variances ≥ ``floor``, in the dtype of the images.

    Raises:
        InputError: another shape or dtype, or an option out of range.

    Source: the variance of Wang, Bovik, Sheikh, Simoncelli, TIP 13(4), 2004.

    Example:
        >>> local_variance(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 22, 22])
        >>> images = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
        >>> local_variance(images, window=3, sigma=None, border="reflect")
        tensor([[0.2222, 0.2222, 0.2222, 0.2222]])
    """
    check_planes("images", images)
    check_window(window, sigma)
    check_at_least("floor", floor, 0)
    check_choice("border", border, ("valid", "zero", "reflect"))
    return ops.local_variance(images, window=window, sigma=sigma, floor=floor, border=border)


def sobel_gradient(images: Tensor) -> Tensor:
    r"""Return the gradient magnitude of the 3×3 Sobel operator, with repeated border pixels.

    .. math:: S = \sqrt{(K_x * I)^2 + (K_y * I)^2}, \quad
              K_x = \begin{pmatrix} -1&0&1 \\ -2&0&2 \\ -1&0&1 \end{pmatrix},\ K_y = K_x^T

    The operator is not normalised: S of images in [0, 1] lies in [0, 3√2].

    Args:
        images: ``(..., H, W)``, float16, bfloat16, float32 or float64 of any range.

    Returns:
        ``(..., H, W)`` in the dtype of the images. The derivative of S is defined as 0 at S = 0.

    Only the images are saved for the backward pass.

    Raises:
        InputError: another shape or dtype.

    Source: arXiv 2510.21815; border and scale are this package's choice.

    Example:
        >>> sobel_gradient(torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
        tensor([[0., 4., 4., 0.]])
    """
    check_planes("images", images)
    return ops.sobel_gradient(images)


def well_exposedness(images: Tensor, center: float = 0.5, sigma: float = 0.2) -> Tensor:
    r"""Return the closeness to mid-grey, :math:`E = e^{-(I - c)^2 / 2\sigma^2}`.

    Args:
        images: any shape, float16, bfloat16, float32 or float64.
        center: the best exposed value c.
        sigma: the tolerance σ > 0.

    Returns:
        Values in [0, 1], in the shape and dtype of the images.

    Raises:
        InputError: another dtype, or an option out of range.

    Source: Mertens, Kautz, Van Reeth, Exposure Fusion, Pacific Graphics 2007.

    Example:
        >>> well_exposedness(torch.tensor([0.1, 0.5, 1.0]))
        tensor([0.1353, 1.0000, 0.0439])
    """
    check_float("images", images)
    check_number("center", center)
    check_positive("sigma", sigma)
    # In half precision the squares and the exponent would be rounded too, not only the result.
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    return reference.well_exposedness(wide, float(center), float(sigma)).to(images.dtype)


def gamma_weights(
    exposures: Tensor,
    gamma: Gamma = "variance_gradient",
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    eps: float = 1e-12,
) -> Tensor:
    r"""Return how much each exposure counts at each pixel.

    .. math:: \gamma_k = \frac{A_k}{\sum_j A_j + \varepsilon}

    :math:`A_k` is the product of the chosen attributes of exposure k: V (:func:`local_variance`),
    S (:func:`sobel_gradient`), E (:func:`well_exposedness`).

    Args:
        exposures: float16, bfloat16, float32 or float64 in [0, 1]: grey ``(B, K, H, W)`` or
            ``(B, K, 1, H, W)``, or RGB ``(B, K, 3, H, W)``, of which the luma is used.
        gamma: one or more of ``variance``, ``gradient`` and ``well_exposedness``, joined by ``_``
            in any order; or a function that takes the grey exposures ``(B, K, H, W)`` and returns
            A ≥ 0 of the same shape.
        window: odd side of the window of V in pixels. Along a shorter axis the largest odd window
            that fits is used.
        sigma: standard deviation of the window's Gaussian in pixels; ``None`` is a flat window.
        floor: smallest V, ≥ 0.
        eps: ε ≥ 0, which avoids 0/0 where every exposure is flat.

    Returns:
        ``(B, K, H - window + 1, W - window + 1)`` in the dtype of the exposures: the values at the
        centres of the windows, where the ``"valid"`` SSIM map has its values. There is a channel
        axis of size 1 if the exposures have one. Weights are ≥ 0 and sum to 1 over K, or to less
        where all A vanish.

    Only the exposures are saved for the backward pass; a function of the caller is recorded by
    autograd.

    Raises:
        InputError: a shape, dtype, name or option out of range, or a function that returns another
            shape.

    Source: arXiv 2510.21815.

    Example:
        >>> exposures = torch.rand(1, 2, 32, 32)
        >>> weights = gamma_weights(exposures)
        >>> weights.shape
        torch.Size([1, 2, 22, 22])
        >>> bool((weights.sum(dim=1) - 1).abs().max() < 1e-4)
        True
        >>> darkest_counts = gamma_weights(exposures, lambda planes: 1 - planes)
    """
    check_float("exposures", exposures)
    check_exposures(exposures)
    gamma = checked_gamma(gamma)
    check_window(window, sigma)
    check_at_least("floor", floor, 0)
    check_at_least("eps", eps, 0)
    planes = to_luma(exposures, 4)
    if isinstance(gamma, str):
        weights = ops.gamma_weights(planes, gamma, window, sigma, floor, eps)
    else:
        weights = custom_gamma(gamma, planes, window, eps)
    return weights.unsqueeze(2) if exposures.ndim == 5 else weights
