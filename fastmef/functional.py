"""Every public operation: the arguments are checked here and nowhere else, then the op is called.

Images are floating point in [0, 1] unless said otherwise, planes are the last two axes. All
operations are differentiable once with respect to their floating-point tensors. float16 and
bfloat16 are computed in float32: maps and gradients come back in the input's dtype, scalars in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from fastmef import ops, reference
from fastmef.errors import InputError
from fastmef.metrics.mef_ssim import mef_ssim
from fastmef.reference.gamma import ATTRIBUTES, parse_attributes

__all__ = [
    "fusion_loss",
    "gamma_weights",
    "guided_upsample_fuse",
    "local_variance",
    "mef_ssim",
    "sobel_gradient",
    "softmax_fuse",
    "ssim",
    "weighted_ssim_loss",
    "well_exposedness",
]


def local_variance(
    images: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    floor: float = 1e-4,
    border: str = "valid",
) -> Tensor:
    r"""Windowed variance.

    .. math:: V = \max(w * I^2 - (w * I)^2,\ \text{floor})

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
    _check_planes("images", images)
    _check_window(window, sigma)
    _check_at_least("floor", floor, 0)
    _check_choice("border", border, ("valid", "zero", "reflect"))
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
    """
    _check_planes("images", images)
    return ops.filters.sobel_gradient(images)


def well_exposedness(images: Tensor, center: float = 0.5, sigma: float = 0.2) -> Tensor:
    r"""Closeness to mid-grey, :math:`E = e^{-(I - c)^2 / 2\sigma^2}` (Mertens et al. 2007).

    Args:
        images: any shape.
        center: the best exposed value c.
        sigma: its tolerance, > 0.
    """
    _check_float("images", images)
    if not sigma > 0:
        raise InputError(f"sigma must be positive, got {sigma!r}")
    return reference.well_exposedness(images, center, sigma)


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
    _check_stack("exposures", exposures)
    _check_gamma(attributes)
    _check_window(window, sigma)
    _check_at_least("floor", floor, 0)
    _check_at_least("eps", eps, 0)
    return ops.filters.gamma_weights(
        exposures, attributes=attributes, window=window, sigma=sigma, floor=floor, eps=eps
    )


def ssim(
    a: Tensor,
    b: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_range: float = 1.0,
    luminance: bool = True,
    border: str = "valid",
    reduction: str = "mean",
) -> Tensor:
    r"""Windowed structural similarity of two images.

    .. math::
        \mathrm{SSIM} = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}
        \cdot \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2},
        \quad C_i = (k_i \cdot \text{data\_range})^2

    Args:
        a, b: ``(..., H, W)``, same shape.
        window, sigma: as for :func:`local_variance`.
        k1, k2: stability constants.
        data_range: the span of the values, 1 for images in [0, 1].
        luminance: ``False`` leaves out the first factor.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``.
        reduction: ``"mean"`` (scalar) or ``"none"`` (the map).

    Source: Wang, Bovik, Sheikh, Simoncelli, TIP 13(4), 2004.
    """
    _check_planes("a", a)
    _check_planes("b", b)
    if a.shape != b.shape:
        raise InputError(
            f"a and b must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    _check_same_kind("a", a, "b", b)
    _check_window(window, sigma)
    _check_at_least("k1", k1, 0)
    _check_at_least("k2", k2, 0)
    if not data_range > 0:
        raise InputError(f"data_range must be positive, got {data_range!r}")
    _check_choice("border", border, ("valid", "zero", "reflect"))
    _check_choice("reduction", reduction, ("mean", "none"))
    return ops.ssim.ssim(
        a,
        b,
        window=window,
        sigma=sigma,
        k1=k1,
        k2=k2,
        data_range=data_range,
        luminance=luminance,
        border=border,
        reduction=reduction,
    )


def weighted_ssim_loss(
    fused: Tensor,
    exposures: Tensor,
    gamma: str = "variance_gradient",
    luminance: bool = False,
    window: int = 11,
    sigma: float | None = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    floor: float = 1e-4,
    eps: float = 1e-12,
    scales: Sequence[float] = (1.0,),
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The unsupervised fusion loss.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

    Args:
        fused: grey F, ``(B, H, W)``.
        exposures: grey I, ``(B, K, H, W)``.
        gamma: attributes of :func:`gamma_weights`.
        luminance: keep the luminance factor of SSIM. Without it, the default, only contrast and
            structure are compared, and exposures of different brightness do not contradict.
        window, sigma, k1, k2: of the SSIM (and the variance in γ), data range 1.
        floor, eps: of γ.
        scales: weights of the levels, finest first, normalised to sum 1; images are halved by
            2×2 means from one level to the next.
        mask: ``(B, H, W)``, ≥ 0: how much each window centre counts.
        reduction: ``"mean"``, or ``"none"`` for the map of a single scale.

    Returns:
        A scalar in [0, 2], or ``(B, H - window + 1, W - window + 1)``.

    Raises:
        InputError: shapes that do not fit, an unknown γ, scales without a positive weight.

    Source: arXiv 2510.21815.
    """
    _check_stack("exposures", exposures)
    _check_planes("fused", fused)
    if fused.shape != exposures.shape[:1] + exposures.shape[2:]:
        raise InputError(
            "fused must be (B, H, W) of exposures (B, K, H, W), "
            f"got {tuple(fused.shape)} and {tuple(exposures.shape)}"
        )
    _check_same_kind("fused", fused, "exposures", exposures)
    _check_choice("reduction", reduction, ("mean", "none"))
    options = _loss_options(gamma, luminance, window, sigma, k1, k2, floor, eps, scales)
    if reduction == "none" and len(options["scales"]) != 1:
        raise InputError(f"reduction='none' needs one scale, got {len(options['scales'])}")
    if mask is not None:
        if mask.shape != fused.shape:
            raise InputError(
                f"mask must have the shape of fused {tuple(fused.shape)}, got {tuple(mask.shape)}"
            )
        _check_same_kind("mask", mask, "fused", fused)
    return ops.loss.weighted_ssim_loss(fused, exposures, mask, reduction, **options)


def fusion_loss(
    logits: Tensor,
    exposures: Tensor,
    gamma: str = "variance_gradient",
    luminance: bool = False,
    window: int = 11,
    sigma: float | None = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    floor: float = 1e-4,
    eps: float = 1e-12,
    scales: Sequence[float] = (1.0,),
) -> Tensor:
    r""":func:`weighted_ssim_loss` straight from the network's logits.

    .. math:: F = \sum_k \mathrm{softmax}_k(\text{logits})\, I_k

    Args:
        logits: ``(B, K, H, W)``.
        exposures: grey, ``(B, K, H, W)``.
        gamma, luminance, window, sigma, k1, k2, floor, eps, scales: of
            :func:`weighted_ssim_loss`.
    """
    _check_stack("exposures", exposures)
    _check_stack("logits", logits)
    if logits.shape != exposures.shape:
        raise InputError(
            "logits and exposures must have the same shape, "
            f"got {tuple(logits.shape)} and {tuple(exposures.shape)}"
        )
    _check_same_kind("logits", logits, "exposures", exposures)
    options = _loss_options(gamma, luminance, window, sigma, k1, k2, floor, eps, scales)
    return ops.loss.fusion_loss(logits, exposures, **options)


@overload
def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: Literal[False] = False,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor: ...


@overload
def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: Literal[True],
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...


def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: bool = False,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""The convex combination of the exposures by the softmax of the logits.

    .. math:: F = \sum_k W_k I_k, \qquad W = \mathrm{softmax}_k(\text{logits} / T)

    Every pixel of F lies between the smallest and largest exposure there. Sums are formed in
    float32, in float64 where logits or exposures are float64.

    Args:
        logits: floating point, ``(B, K, H, W)``; finite, or -inf for an exposure without weight.
            What +inf gives depends on the backend.
        exposures: ``(B, K, C, H, W)``, usually RGB; floating point of any range, uint8 or uint16.
            The dtype may differ from that of the logits.
        return_weights: return W as well.
        temperature: T > 0. Below 1 the weights are sharper, above 1 softer.
        valid: bool ``(B, K, H, W)``; an exposure weighs nothing where it is false. Where no
            exposure is valid all of them count.

    Returns:
        F ``(B, C, H, W)`` in the dtype of the exposures, or ``(F, W)`` with W ``(B, K, H, W)`` in
        the dtype of the logits. Integers are rounded to the nearest; backends may differ by one
        level where a sum lies within float32 rounding of the middle between two. They carry no
        gradient, W does.

    Raises:
        InputError: shapes that do not fit, another dtype, two devices.
    """
    _check_stack("logits", logits)
    _check_image("exposures", exposures)
    if exposures.ndim != 5 or exposures.shape[:2] + exposures.shape[3:] != logits.shape:
        raise InputError(
            "exposures must be (B, K, C, H, W) for logits (B, K, H, W), "
            f"got {tuple(exposures.shape)} and {tuple(logits.shape)}"
        )
    if exposures.shape[2] == 0:
        raise InputError(f"exposures must have a channel, got {tuple(exposures.shape)}")
    _check_one_device("logits", logits, "exposures", exposures)
    if not 0 < temperature < math.inf:
        raise InputError(f"temperature must be positive and finite, got {temperature!r}")
    _check_valid(valid, logits)
    fused, weights = ops.fusion.softmax_fuse(logits, exposures, return_weights, temperature, valid)
    return (fused, weights) if return_weights else fused


def guided_upsample_fuse(
    logits: Tensor, exposures: Tensor, radius: int = 2, eps: float = 1e-4
) -> Tensor:
    r"""Fuse full-size exposures by logits that were computed at a smaller size.

    The logits are enlarged by the fast guided filter: in every window of the small size each of
    them is fitted by a line over the guide g, the mean luma of the exposures, and the lines are
    applied to the guide at full size, so that weights change where the picture does.

    .. math::
        a_k = \frac{\operatorname{cov}(g, x_k)}{\operatorname{var}(g) + \epsilon}, \quad
        b_k = \bar x_k - a_k \bar g, \qquad
        F = \sum_k \mathrm{softmax}_k(\uparrow\!\bar a_k\, g + \uparrow\!\bar b_k)\, I_k

    Bars are window means at the small size, ↑ is bilinear enlarging. The small guide is the mean
    of g over the pixels of each small one, so the logits should come from exposures reduced by
    averaging. Every pixel of F lies between the smallest and largest exposure there.

    Args:
        logits: ``(B, K, h, w)``, h ≤ H and w ≤ W.
        exposures: ``(B, K, 3, H, W)``, floating point in [0, 1], uint8 or uint16.
        radius: windows are ``2 radius + 1`` pixels of the small size, ≥ 0; at borders they end.
        eps: how little the guide may vary before it counts as flat, > 0. A large one blurs.

    Returns:
        F ``(B, 3, H, W)`` in the dtype and layout of the exposures, integers rounded to the
        nearest.

    Differentiable by logits and floating-point exposures, everywhere through plain PyTorch.

    Raises:
        InputError: shapes that do not fit, a negative radius, eps not positive.

    Source: He, Sun, Tang, Guided Image Filtering, TPAMI 35(6), 2013; He, Sun, Fast Guided Filter,
    arXiv 1505.00996. On three photographs reduced to a quarter, larger windows and larger eps
    scored less, and a guide for each exposure alone, tried with one setting, no more than the mean.
    """
    _check_stack("logits", logits)
    _check_image("exposures", exposures)
    if exposures.ndim != 5 or exposures.shape[:2] != logits.shape[:2] or exposures.shape[2] != 3:
        raise InputError(
            "exposures must be (B, K, 3, H, W) for logits (B, K, h, w), "
            f"got {tuple(exposures.shape)} and {tuple(logits.shape)}"
        )
    small, full = tuple(logits.shape[-2:]), tuple(exposures.shape[-2:])
    if small[0] > full[0] or small[1] > full[1]:
        raise InputError(f"logits must not be larger than the exposures {full}, got {small}")
    _check_one_device("logits", logits, "exposures", exposures)
    if not isinstance(radius, int) or radius < 0:
        raise InputError(f"radius must be an integer of at least 0, got {radius!r}")
    if not 0 < eps < math.inf:
        raise InputError(f"eps must be a positive finite number, got {eps!r}")
    return ops.guided.guided_upsample_fuse(logits, exposures, radius, eps)


def _loss_options(
    gamma: str,
    luminance: bool,
    window: int,
    sigma: float | None,
    k1: float,
    k2: float,
    floor: float,
    eps: float,
    scales: Sequence[float],
) -> dict[str, Any]:
    _check_gamma(gamma)
    _check_window(window, sigma)
    for name, value in (("k1", k1), ("k2", k2), ("floor", floor), ("eps", eps)):
        _check_at_least(name, value, 0)
    weights = tuple(float(weight) for weight in scales)
    if not weights or min(weights) < 0 or not 0 < sum(weights) < math.inf:
        raise InputError(
            f"scales must be non-negative weights with a positive sum, got {tuple(scales)}"
        )
    return {
        "gamma": gamma,
        "luminance": bool(luminance),
        "window": window,
        "sigma": sigma,
        "k1": k1,
        "k2": k2,
        "floor": floor,
        "eps": eps,
        "scales": weights,
    }


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.uint16)


def _check_dtype(name: str, tensor: Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise InputError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in allowed:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise InputError(f"{name} must be one of {names}, got {tensor.dtype}")


def _check_float(name: str, tensor: Tensor) -> None:
    _check_dtype(name, tensor, _FLOATS)


def _check_image(name: str, tensor: Tensor) -> None:
    _check_dtype(name, tensor, (*_INTEGERS, *_FLOATS))


def _check_planes(name: str, tensor: Tensor) -> None:
    _check_float(name, tensor)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise InputError(f"{name} must be (..., H, W) and not empty, got {tuple(tensor.shape)}")


def _check_stack(name: str, tensor: Tensor) -> None:
    _check_float(name, tensor)
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise InputError(f"{name} must be (B, K, H, W) and not empty, got {tuple(tensor.shape)}")


def _check_one_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise InputError(
            f"{name} and {other_name} must be on one device, got {tensor.device}, {other.device}"
        )


def _check_same_kind(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    _check_one_device(name, tensor, other_name, other)
    if tensor.dtype != other.dtype:
        raise InputError(
            f"{name} and {other_name} must have one dtype, got {tensor.dtype} and {other.dtype}"
        )


def _check_valid(valid: Tensor | None, logits: Tensor) -> None:
    if valid is None:
        return
    if not isinstance(valid, Tensor) or valid.dtype != torch.bool or valid.shape != logits.shape:
        got = f"{valid.dtype} {tuple(valid.shape)}" if isinstance(valid, Tensor) else repr(valid)
        raise InputError(f"valid must be bool {tuple(logits.shape)} like logits, got {got}")
    if valid.device != logits.device:
        raise InputError(
            f"valid and logits must be on one device, got {valid.device}, {logits.device}"
        )


def _check_window(window: int, sigma: float | None) -> None:
    if not isinstance(window, int) or window < 1 or window % 2 == 0:
        raise InputError(f"window must be an odd positive integer, got {window!r}")
    if sigma is not None and not 0 < sigma < math.inf:
        raise InputError(f"sigma must be positive, or None for a flat window, got {sigma!r}")


def _check_at_least(name: str, value: float, lowest: float) -> None:
    if not lowest <= value < math.inf:
        raise InputError(f"{name} must be a finite number of at least {lowest}, got {value!r}")


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_gamma(gamma: str) -> None:
    if parse_attributes(gamma) is None:
        raise InputError(
            f"gamma must join a non-empty subset of {', '.join(ATTRIBUTES)} "
            f"in this order by '_', got {gamma!r}"
        )
