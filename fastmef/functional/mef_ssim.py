"""MEF-SSIM: how much of the structure of the exposures a fused image keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import backends
from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_dense, check_one_device
from fastmef.functional._images import check_exposures, check_fused, to_luma
from fastmef.ops import mef_ssim as ops
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.reference.mef_ssim import VARIANTS

SCALES = {"ma2015": (1, 3), "mefnet": (1,), "mefnet_cs": (1,), "color2018": (1,)}


def mef_ssim(
    fused: Tensor, exposures: Tensor, variant: str = "ma2015", scales: int | None = None
) -> Tensor:
    r"""Return how much of the structure of the exposures a fused image keeps, ≤ 1, best 1.

    With :math:`\hat x` the patch that has the contrast of the strongest exposure and the weighted
    mean structure of all, or (``mefnet``, ``color2018``) the exposure of largest variance there,

    .. math:: cs = \frac{2\sigma_{\hat x y} + C_2}{\sigma_{\hat x}^2 + \sigma_y^2 + C_2},
              \quad C_2 = (0.03 \cdot \text{range})^2

    The variants differ by more than methods do; print :func:`fastmef.metrics.score_name` beside
    every score.

    ===============  =====================================================================
    ``ma2015``       mean cs of the grey images, 11×11 windows, without brightness; over 3
                     scales :math:`\prod_l \max(Q_l, 0)^{\beta_l}`, agreeing with the
                     authors' MATLAB code; ``scales=1`` is the finest scale alone
    ``mefnet``       grey, 11×11, σ = 11/6: mean luminance factor times mean cs
    ``mefnet_cs``    the same, mean cs alone
    ``color2018``    RGB, 8×8×3 windows: mean of luminance factor times cs (MEF-SSIMc)
    ===============  =====================================================================

    Args:
        fused: uint8, or floating point in [0, 1]: ``(B, 3, H, W)`` for RGB exposures,
            ``(B, H, W)`` or ``(B, 1, H, W)`` for grey ones. Gradients flow to it and are finite
            everywhere.
        exposures: uint8, or floating point in [0, 1]: grey ``(B, K, H, W)`` or ``(B, K, 1, H, W)``,
            or RGB ``(B, K, 3, H, W)``. No gradient flows to them. Any size: along an axis shorter
            than the window, the largest odd window that fits is used.
        variant: ``"ma2015"``, ``"mefnet"``, ``"mefnet_cs"`` or ``"color2018"`` (RGB only).
        scales: number of scales of ma2015, 3 (default) or 1. The other variants have one.

    Returns:
        ``(B,)``; float64 for uint8 exposures, float32 for half precision, else the exposures'
        dtype. ``ma2015`` rounds the grey values of uint8 RGB to 8 bit, as MATLAB does; floating
        point is never rounded.

    Memory: with C++ kernels ``ma2015`` of two grey float32 exposures takes 4 bytes a pixel, for the
    coarser scales. RGB exposures take 24 bytes, because grey images are made of them, and uint8
    exposures, which are scored in float64, 93; ``mefnet`` takes 40, ``color2018`` of float32
    exposures 20. Measured at 12 megapixels.

    Raises:
        InputError: a shape, dtype, variant or number of scales that is not listed here, or floating
            point images of range 0-255 (not checked while a gradient w.r.t. ``fused`` is
            recorded).

    Source: Ma, Zeng, Wang, TIP 24(11), 2015 (ma2015); Ma, Duanmu, Zhu, Fang, Wang, TIP 29, 2020
    (mefnet); Ma, Duanmu, Yeganeh, Wang, TCI 4(1), 2018 (color2018).

    Example:
        >>> exposures = torch.rand(1, 2, 3, 64, 64)
        >>> mef_ssim(exposures.mean(dim=1), exposures).shape
        torch.Size([1])
    """
    check_variant(variant, scales)
    check_scored_exposures(exposures, needs_color=variant == "color2018")
    check_scored(fused, exposures)
    # The range is not checked in training: reading a value back would stall a GPU in every step.
    if not detach_if_no_grad(fused).requires_grad:
        check_range("exposures", exposures)
        check_range("fused", fused)
    return ops.mef_ssim(
        without_gray_axis(fused, 3), without_gray_axis(exposures, 4), variant, scales
    )


def check_variant(variant: str, scales: int | None) -> None:
    """Refuse an unknown variant, and a number of scales that it does not have."""
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise InputError(f"variant must be one of {', '.join(VARIANTS)}, got {shown(variant)}")
    allowed = SCALES[variant]
    if scales is not None and not (isinstance(scales, int) and scales in allowed):
        numbers = " or ".join(str(number) for number in allowed)
        raise InputError(f"scales of {variant} must be {numbers}, got {shown(scales)}")


def check_scored_exposures(exposures: Tensor, needs_color: bool = False) -> None:
    """Refuse anything but exposures that :func:`mef_ssim` describes."""
    _check_type("exposures", exposures)
    check_exposures(exposures, needs_color)


def check_scored(fused: Tensor, exposures: Tensor) -> None:
    """Refuse a fused image that does not belong to the (checked) exposures."""
    _check_type("fused", fused)
    check_fused(fused, exposures)
    check_one_device("fused", fused, "exposures", exposures)


def check_range(name: str, images: Tensor) -> None:
    """Refuse floating point images of range 0-255. The check waits for the device.

    It is skipped under transforms of ``torch.func``, where values cannot be read.
    """
    if backends.transforms_active():
        return
    # Results may overshoot 1 a little; an image of range 0-255 that stays below 2 is black.
    if images.is_floating_point() and (largest := images.max().item()) > 2:
        raise InputError(
            f"{name} in floating point must lie in [0, 1], got a maximum of {largest:g}; "
            f"pass uint8 or divide by 255"
        )


def without_gray_axis(images: Tensor, without_channels: int) -> Tensor:
    """Return RGB images unchanged, grey images without their channel axis."""
    has_axis = images.ndim > without_channels and images.shape[-3] == 1
    return to_luma(images, without_channels) if has_axis else images


def _check_type(name: str, images: Tensor) -> None:
    check_dense(name, images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"{name} must be uint8 or floating point, got {images.dtype}")
