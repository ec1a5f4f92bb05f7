"""The unsupervised losses of a fused image, and of the logits that produce it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fastmef import reference
from fastmef.errors import InputError, shown
from fastmef.functional._checks import (
    check_at_least,
    check_choice,
    check_dense,
    check_flag,
    check_float,
    check_same_kind,
    check_stack,
    check_window,
    is_number,
)
from fastmef.functional._gamma import Gamma, checked_gamma, custom_gamma
from fastmef.functional._images import check_exposures, check_fused, to_luma
from fastmef.ops import loss as ops
from fastmef.ops.fusion import softmax_fuse
from fastmef.ops.loss_from_maps import weighted_similarities
from fastmef.ops.loss_launch import repeat
from fastmef.reference.loss import LossOptions


def weighted_ssim_loss(
    fused: Tensor,
    exposures: Tensor,
    gamma: Gamma = "variance_gradient",
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
    r"""Return the γ-weighted windowed SSIM of a fused image to every exposure, as a loss.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

    Args:
        fused: F in [0, 1], float16, bfloat16, float32 or float64: grey ``(B, H, W)`` or
            ``(B, 1, H, W)``, or RGB ``(B, 3, H, W)``, of which the luma is compared.
        exposures: I in [0, 1], in the same dtype: grey ``(B, K, H, W)`` or ``(B, K, 1, H, W)``, or
            RGB ``(B, K, 3, H, W)`` like F.
        gamma: names of attributes, or a function; see :func:`gamma_weights`. A function is called
            at every level, and gradients flow to its parameters.
        luminance: whether to keep the luminance factor of SSIM. Without it, the default, only
            contrast and structure are compared, so that exposures of different brightness do not
            contradict each other.
        window: odd side of the windows of SSIM and V in pixels. Along a shorter axis the largest
            odd window that fits is used.
        sigma: standard deviation of the windows' Gaussian in pixels; ``None`` is a flat window.
        k1: stability constant of SSIM's luminance factor, ≥ 0; the data range is 1.
        k2: stability constant of SSIM's contrast and structure, ≥ 0.
        floor: smallest V in γ, ≥ 0.
        eps: ε in the denominator of γ, ≥ 0.
        scales: weights of the levels, finest first, normalised to sum 1; images are halved by
            2×2 means from one level to the next.
        mask: ``(B, H, W)`` or ``(B, 1, H, W)``, ≥ 0, in the dtype of F: how much each window
            centre counts.
        reduction: ``"mean"``, or ``"none"`` for the map of a single scale.

    Returns:
        A scalar in [0, 2], float32 for half precision and else in the dtype of F. With ``"none"``
        the map ``(B, H - window + 1, W - window + 1)`` in the dtype of F, with a channel axis of
        size 1 where F has one.

    Memory: C++ kernels allocate the map, or the gradient w.r.t. F, which is computed with the mean
    if it is needed and saved for the backward pass, and a few rows for each thread. Gradients
    w.r.t. the exposures or the mask, and a function as γ, take maps of the size of the exposures.

    Raises:
        InputError: shapes that do not fit, an unknown γ, scales without a positive weight.

    Source: arXiv 2510.21815.

    Example:
        >>> exposures = torch.rand(1, 2, 3, 32, 32)
        >>> fused = exposures.mean(dim=1).requires_grad_()
        >>> loss = weighted_ssim_loss(fused, exposures, scales=(0.6, 0.4))
        >>> loss.backward()
        >>> fused.grad.shape
        torch.Size([1, 3, 32, 32])
        >>> weighted_ssim_loss(fused, exposures, reduction="none").shape
        torch.Size([1, 1, 22, 22])
    """
    options, scales = loss_options(scales, gamma, luminance, window, sigma, k1, k2, floor, eps)
    check_choice("reduction", reduction, ("mean", "none"))
    if mask is None and reduction == "mean":
        loss = repeat(ops.WEIGHTED_SSIM_LOSS, fused, exposures, options, scales)
        if loss is not None:
            return loss
    check_float("fused", fused)
    check_float("exposures", exposures)
    check_exposures(exposures)
    check_fused(fused, exposures)
    check_same_kind("fused", fused, "exposures", exposures)
    if reduction == "none" and len(scales) != 1:
        raise InputError(f"reduction='none' needs one scale, got {len(scales)}")
    plane, planes = to_luma(fused, 3), to_luma(exposures, 4)
    if mask is not None:
        check_dense("mask", mask)
        if mask.shape not in (plane.shape, plane.unsqueeze(1).shape):
            raise InputError(
                f"mask must be {tuple(plane.shape)} or {tuple(plane.unsqueeze(1).shape)}, "
                f"got {tuple(mask.shape)}"
            )
        check_same_kind("mask", mask, "fused", fused)
        mask = to_luma(mask, 3)
    function = ops.weighted_ssim_loss if isinstance(options.gamma, str) else _custom_gamma_loss
    loss = function(plane, planes, mask, reduction, options, scales)
    return loss.unsqueeze(1) if reduction == "none" and fused.ndim == 4 else loss


def fusion_loss(
    logits: Tensor,
    exposures: Tensor,
    gamma: Gamma = "variance_gradient",
    luminance: bool = False,
    window: int = 11,
    sigma: float | None = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    floor: float = 1e-4,
    eps: float = 1e-12,
    scales: Sequence[float] = (1.0,),
) -> Tensor:
    r"""Return the :func:`weighted_ssim_loss` of the image that the logits fuse.

    .. math:: F = \sum_k \mathrm{softmax}_k(\text{logits})\, I_k

    The luma of F is the same sum of the exposures' luma, so F is not formed in RGB.

    Args:
        logits: ``(B, K, H, W)``, in the dtype of the exposures.
        exposures: as for :func:`weighted_ssim_loss`.
        gamma, luminance, window, sigma, k1, k2, floor, eps, scales: as for
            :func:`weighted_ssim_loss`.

    Returns:
        A scalar in [0, 2], float32 for half precision and else in the dtype of the logits.

    Memory: if the exposures require no gradient, C++ kernels allocate the gradient w.r.t. the
    logits, which is computed with the value and saved for the backward pass, and a few rows for
    each thread: under 12 MiB at 24 megapixels.

    Raises:
        InputError: shapes that do not fit, an unknown γ, scales without a positive weight.

    Source: arXiv 2510.21815.

    Example:
        >>> exposures, logits = torch.rand(1, 2, 3, 32, 32), torch.zeros(1, 2, 32, 32)
        >>> mean = exposures.mean(dim=1)
        >>> torch.testing.assert_close(
        ...     fusion_loss(logits, exposures), weighted_ssim_loss(mean, exposures)
        ... )
    """
    options, scales = loss_options(scales, gamma, luminance, window, sigma, k1, k2, floor, eps)
    loss = repeat(ops.FUSION_LOSS, logits, exposures, options, scales)
    if loss is not None:
        return loss
    check_float("exposures", exposures)
    check_stack("logits", logits)
    check_exposures(exposures)
    is_gray = logits.shape == exposures.shape
    if not is_gray and logits.shape != exposures.shape[:2] + exposures.shape[-2:]:
        raise InputError(
            "logits must be (B, K, H, W) of the exposures, "
            f"got {tuple(logits.shape)} for {tuple(exposures.shape)}"
        )
    check_same_kind("logits", logits, "exposures", exposures)
    planes = to_luma(exposures, 4)
    if isinstance(options.gamma, str):
        return ops.fusion_loss(logits, planes, options, scales)
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in (logits, planes)]
    fused, _ = softmax_fuse(wide[0], wide[1].unsqueeze(2), want_weights=False)
    return _custom_gamma_loss(fused.squeeze(1), wide[1], None, "mean", options, scales)


def _custom_gamma_loss(
    fused: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    reduction: str,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor:
    """Return the loss of grey images whose γ is the caller's function."""

    def quality_map(fused: Tensor, exposures: Tensor, options: LossOptions) -> Tensor:
        function: Any = options.gamma
        weights = custom_gamma(function, exposures, options.window, options.eps)
        terms = weighted_similarities(fused, exposures, weights, options)
        return torch.stack([*terms]).sum(dim=0)

    dtype = fused.dtype
    # In half precision every map would be rounded.
    wide = torch.promote_types(dtype, torch.float32)
    mask = None if mask is None else mask.to(wide)
    loss = reference.weighted_ssim_loss(
        fused.to(wide),
        exposures.to(wide),
        scales,
        mask=mask,
        reduction=reduction,
        quality_map=quality_map,
        **options._asdict(),
    )
    return loss.to(dtype) if reduction == "none" else loss


def loss_options(scales: Sequence[float], *given: Any) -> tuple[LossOptions, tuple[float, ...]]:
    """Check options and scales of the losses and return them, with γ and scales normalised."""
    # A cache would keep a function and the tensors that it holds.
    if type(scales) is tuple and type(given[0]) is str and not torch.compiler.is_compiling():
        try:
            return _cached_options(*given, *scales)
        except TypeError:  # an option is not hashable
            pass
    return _checked_options(scales, *given)


def _checked_options(scales: Sequence[float], *given: Any) -> tuple[LossOptions, tuple[float, ...]]:
    """Check options and scales and return them, γ and scales normalised."""
    options = LossOptions(*given)
    gamma: Any = checked_gamma(options.gamma)  # names, or a function
    check_flag("luminance", options.luminance)
    check_window(options.window, options.sigma)
    for name in ("k1", "k2", "floor", "eps"):
        check_at_least(name, getattr(options, name), 0)
    weights = tuple(scales) if isinstance(scales, Sequence) else ()
    numbers = all(is_number(weight) and weight >= 0 for weight in weights)
    if not numbers or not 0 < sum(weights) < math.inf:
        raise InputError(
            f"scales must be non-negative weights with a positive sum, got {shown(scales)}"
        )
    return LossOptions(gamma, *options[1:]), tuple(float(weight) for weight in weights)


@lru_cache(maxsize=64, typed=True)  # 1 and True are equal, but not both are allowed
def _cached_options(*given: Any) -> tuple[LossOptions, tuple[float, ...]]:
    """Return :func:`_checked_options` from a cache; scales follow the options."""
    count = len(LossOptions._fields)
    return _checked_options(given[count:], *given[:count])
