"""The unsupervised losses of a fused image and of the logits it is made by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fastmef import ops
from fastmef.errors import InputError, shown
from fastmef.functional._checks import (
    check_at_least,
    check_choice,
    check_dense,
    check_flag,
    check_gamma,
    check_planes,
    check_same_kind,
    check_stack,
    check_window,
    is_number,
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

    Memory: with C++ kernels the map, or the gradient by F, which is made with the mean where it is
    needed and kept for the backward pass; beside them a few rows a thread. Gradients by the
    exposures or the mask take maps of their size.

    Raises:
        InputError: shapes that do not fit, an unknown γ, scales without a positive weight.

    Source: arXiv 2510.21815.
    """
    check_stack("exposures", exposures)
    check_planes("fused", fused)
    if fused.shape != exposures.shape[:1] + exposures.shape[2:]:
        raise InputError(
            "fused must be (B, H, W) of exposures (B, K, H, W), "
            f"got {tuple(fused.shape)} and {tuple(exposures.shape)}"
        )
    check_same_kind("fused", fused, "exposures", exposures)
    check_choice("reduction", reduction, ("mean", "none"))
    options = loss_options(gamma, luminance, window, sigma, k1, k2, floor, eps, scales)
    if reduction == "none" and len(options["scales"]) != 1:
        raise InputError(f"reduction='none' needs one scale, got {len(options['scales'])}")
    if mask is not None:
        check_dense("mask", mask)
        if mask.shape != fused.shape:
            raise InputError(
                f"mask must have the shape of fused {tuple(fused.shape)}, got {tuple(mask.shape)}"
            )
        check_same_kind("mask", mask, "fused", fused)
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

    Memory: with C++ kernels and constant exposures the gradient by the logits, made with the value
    and kept for the backward pass; beside it a few rows a thread, under 12 MiB at 24 megapixels.
    """
    check_stack("exposures", exposures)
    check_stack("logits", logits)
    if logits.shape != exposures.shape:
        raise InputError(
            "logits and exposures must have the same shape, "
            f"got {tuple(logits.shape)} and {tuple(exposures.shape)}"
        )
    check_same_kind("logits", logits, "exposures", exposures)
    options = loss_options(gamma, luminance, window, sigma, k1, k2, floor, eps, scales)
    return ops.loss.fusion_loss(logits, exposures, **options)


def loss_options(
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
    check_gamma(gamma)
    check_flag("luminance", luminance)
    check_window(window, sigma)
    for name, value in (("k1", k1), ("k2", k2), ("floor", floor), ("eps", eps)):
        check_at_least(name, value, 0)
    weights = tuple(scales) if isinstance(scales, Sequence) else ()
    numbers = all(is_number(weight) and weight >= 0 for weight in weights)
    if not numbers or not 0 < sum(weights) < math.inf:
        raise InputError(
            f"scales must be non-negative weights with a positive sum, got {shown(scales)}"
        )
    weights = tuple(float(weight) for weight in weights)
    return {
        "gamma": gamma,
        "luminance": luminance,
        "window": window,
        "sigma": sigma,
        "k1": k1,
        "k2": k2,
        "floor": floor,
        "eps": eps,
        "scales": weights,
    }
