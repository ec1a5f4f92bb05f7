"""All of fastmef's mathematics in plain PyTorch: differentiable, float64-clean, on any device.

These definitions are the oracle that every fast path is tested against, and the last fallback.
Arguments are not validated here; the validating interface is :mod:`fastmef.functional`.
"""

from fastmef.reference import guided
from fastmef.reference.color import rgb_to_gray, round_to_8bit
from fastmef.reference.filters import (
    crop_to_centers,
    effective_window,
    gaussian_taps,
    halve,
    window_filter,
)
from fastmef.reference.fusion import softmax_fuse
from fastmef.reference.gamma import (
    gamma_weights,
    local_variance,
    sobel_gradient,
    well_exposedness,
)
from fastmef.reference.loss import fusion_loss, weighted_ssim_loss, weighted_ssim_map
from fastmef.reference.multiscale import ExposurePyramid, exposure_pyramid, multiscale_fuse
from fastmef.reference.restoration import restore_color
from fastmef.reference.shares import exposure_shares
from fastmef.reference.ssim import ssim

__all__ = [
    "ExposurePyramid",
    "crop_to_centers",
    "effective_window",
    "exposure_pyramid",
    "exposure_shares",
    "fusion_loss",
    "gamma_weights",
    "gaussian_taps",
    "guided",
    "halve",
    "local_variance",
    "multiscale_fuse",
    "restore_color",
    "rgb_to_gray",
    "round_to_8bit",
    "sobel_gradient",
    "softmax_fuse",
    "ssim",
    "weighted_ssim_loss",
    "weighted_ssim_map",
    "well_exposedness",
    "window_filter",
]
