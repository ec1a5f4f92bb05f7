"""MEF-SSIM with checked arguments, for one result or for many of one scene."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_dense
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.ops.mef_ssim import STEPS
from fastmef.ops.mef_ssim_once import mef_ssim_once
from fastmef.reference.mef_ssim import VARIANTS, mef_ssim_score, mef_ssim_sources

SCALES = {"ma2015": (1, 3), "mefnet": (1,), "mefnet_cs": (1,), "color2018": (1,)}


def mef_ssim(
    exposures: Tensor, fused: Tensor, variant: str = "ma2015", scales: int | None = None
) -> Tensor:
    r"""How much of the structure of the exposures a fused image keeps; at most 1, higher is better.

    With :math:`\hat x` the patch that has the contrast of the strongest exposure and the weighted
    mean structure of all, or (``mefnet``, ``color2018``) the exposure of largest variance there,

    .. math:: cs = \frac{2\sigma_{\hat x y} + C_2}{\sigma_{\hat x}^2 + \sigma_y^2 + C_2},
              \quad C_2 = (0.03 \cdot \text{range})^2

    The variants differ by more than methods do; print :func:`score_name` beside every score.

    ===============  =====================================================================
    ``ma2015``       mean cs of the grey images, 11×11 windows, without brightness; over 3
                     scales :math:`\prod_l \max(Q_l, 0)^{\beta_l}`, agreeing with the
                     authors' MATLAB code; ``scales=1`` is the finest scale alone
    ``mefnet``       grey, 11×11, σ = 11/6: mean luminance factor times mean cs
    ``mefnet_cs``    the same, mean cs alone
    ``color2018``    RGB, 8×8×3 windows: mean of luminance factor times cs (MEF-SSIMc)
    ===============  =====================================================================

    Args:
        exposures: ``(B, K, 3, H, W)`` RGB or ``(B, K, H, W)`` grey; uint8, or floating point in
            [0, 1]. No gradient flows to it. Any size: along an axis shorter than the window, the
            largest odd window that fits is used.
        fused: ``(B, 3, H, W)`` or ``(B, H, W)``, uint8 or floating point in [0, 1]. Gradients flow
            to it and are finite everywhere.
        variant: ``"ma2015"``, ``"mefnet"``, ``"mefnet_cs"`` or ``"color2018"`` (RGB only).
        scales: of ma2015: 3 (default) or 1. The other variants have one.

    Returns:
        ``(B,)``; float64 for uint8 exposures, float32 for half precision, else the exposures'
        dtype. ``ma2015`` rounds the grey values of uint8 RGB to 8 bit, as MATLAB does; floating
        point is never rounded.

    Memory: with C++ kernels ``ma2015`` of two grey float32 exposures takes 4 bytes a pixel, the
    coarser scales. Their grey images come to 24 bytes in colour and 93 in uint8, which is scored in
    float64; ``mefnet`` takes 40. Measured at 12 megapixels.

    Raises:
        InputError: a shape, dtype, variant or number of scales that is not listed here, or floating
            point images of range 0-255 (not looked for while a gradient by ``fused`` is recorded).

    Source: Ma, Zeng, Wang, TIP 24(11), 2015 (ma2015); Ma, Duanmu, Zhu, Fang, Wang, TIP 29, 2020
    (mefnet); Ma, Duanmu, Yeganeh, Wang, TCI 4(1), 2018 (color2018).

    Example:
        >>> exposures = torch.rand(1, 2, 3, 64, 64)
        >>> mef_ssim(exposures, exposures.mean(dim=1)).shape
        torch.Size([1])
    """
    score_name(variant, scales)
    check_exposures(exposures, needs_color=variant == "color2018")
    check_fused(fused, exposures)
    # As a loss nothing is read back: that would stall a GPU every step.
    if not detach_if_no_grad(fused).requires_grad:
        check_range("exposures", exposures)
        check_range("fused", fused)
    return mef_ssim_once(exposures, fused, variant, scales)


class MEFSSIM:
    """:func:`mef_ssim` of many results of the same exposures, whose maps are computed once.

    Arguments and errors are those of :func:`mef_ssim`. ``name`` says which score it is.
    """

    def __init__(
        self, exposures: Tensor, variant: str = "ma2015", scales: int | None = None
    ) -> None:
        self.name = score_name(variant, scales)
        check_exposures(exposures, needs_color=variant == "color2018")
        check_range("exposures", exposures)
        self._exposures = exposures
        self._sources = mef_ssim_sources(exposures, variant, scales, STEPS)

    def score(self, fused: Tensor) -> Tensor:
        """Scores ``(B,)`` of the fused images."""
        check_fused(fused, self._exposures)
        if not detach_if_no_grad(fused).requires_grad:
            check_range("fused", fused)
        return mef_ssim_score(self._sources, fused, STEPS)


def score_name(variant: str = "ma2015", scales: int | None = None) -> str:
    """The name to print with a score, such as ``"MEF-SSIM ma2015, 3 scales"``."""
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise InputError(f"variant must be one of {', '.join(VARIANTS)}, got {shown(variant)}")
    allowed = SCALES[variant]
    if scales is not None and not (isinstance(scales, int) and scales in allowed):
        numbers = " or ".join(str(number) for number in allowed)
        raise InputError(f"scales of {variant} must be {numbers}, got {shown(scales)}")
    if variant == "ma2015":
        return f"MEF-SSIM ma2015, {'1 scale' if scales == 1 else '3 scales'}"
    factors = {"mefnet": "mefnet, l×cs", "mefnet_cs": "mefnet, cs only"}
    return f"MEF-SSIM {factors.get(variant, variant)}"


def check_exposures(exposures: Tensor, needs_color: bool = False) -> None:
    """Refuse anything but exposures that :func:`mef_ssim` describes."""
    _check_images("exposures", exposures)
    shape = tuple(exposures.shape)
    is_color = exposures.ndim == 5 and shape[2] == 3
    if needs_color and not is_color:
        raise InputError(f"exposures must be RGB, (B, K, 3, H, W), for this score, got {shape}")
    if not is_color and exposures.ndim != 4:
        raise InputError(f"exposures must be (B, K, 3, H, W) RGB or (B, K, H, W) grey, got {shape}")


def check_fused(fused: Tensor, exposures: Tensor) -> None:
    """Refuse a fused image that does not belong to the (checked) exposures."""
    _check_images("fused", fused)
    expected = (exposures.shape[0], *exposures.shape[2:])
    if tuple(fused.shape) != expected:
        raise InputError(
            f"fused must be {expected} for exposures {tuple(exposures.shape)}, "
            f"got {tuple(fused.shape)}"
        )
    if fused.device != exposures.device:
        raise InputError(
            f"fused and exposures must be on one device, got {fused.device}, {exposures.device}"
        )


def check_range(name: str, images: Tensor) -> None:
    """Refuse floating point images of range 0-255; waits for the device."""
    # Results may overshoot 1 a little; an image of range 0-255 that stays below 2 is black.
    if images.is_floating_point() and (largest := images.max().item()) > 2:
        raise InputError(
            f"{name} in floating point must lie in [0, 1], got a maximum of {largest:g}; "
            f"pass uint8 or divide by 255"
        )


def _check_images(name: str, images: Tensor) -> None:
    check_dense(name, images)
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"{name} must be uint8 or floating point, got {images.dtype}")
    if 0 in images.shape:
        raise InputError(f"{name} must not be empty, got {tuple(images.shape)}")
