"""Every public operation: the arguments are checked here and nowhere else, then the op is called.

Images are floating point in [0, 1] unless said otherwise, planes are the last two axes. All
operations are differentiable once with respect to their floating-point tensors. float16 and
bfloat16 are computed in float32: maps and gradients come back in the input's dtype, scalars in
float32.
"""

from fastmef.functional.filters import (
    gamma_weights,
    local_variance,
    sobel_gradient,
    well_exposedness,
)
from fastmef.functional.fusion import softmax_fuse
from fastmef.functional.guided import guided_upsample_fuse
from fastmef.functional.loss import fusion_loss, weighted_ssim_loss
from fastmef.functional.multiscale import exposure_pyramid, multiscale_fuse
from fastmef.functional.shares import exposure_shares
from fastmef.functional.ssim import ssim
from fastmef.metrics.mef_ssim import mef_ssim

__all__ = [
    "exposure_pyramid",
    "exposure_shares",
    "fusion_loss",
    "gamma_weights",
    "guided_upsample_fuse",
    "local_variance",
    "mef_ssim",
    "multiscale_fuse",
    "sobel_gradient",
    "softmax_fuse",
    "ssim",
    "weighted_ssim_loss",
    "well_exposedness",
]
