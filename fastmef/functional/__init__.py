"""The public operations. They check their arguments; the layers below do not check them again.

The fused image comes before the exposures wherever a function takes both. Images are floating point
in [0, 1] unless said otherwise, rows and columns are the last two axes. Losses, scores and networks
take grey images without a channel axis, ``(B, H, W)`` and ``(B, K, H, W)``, or with one of size 1,
and RGB images with one of size 3. All operations are differentiable once w.r.t. their
floating-point tensors. float16 and bfloat16 are computed in float32: maps and gradients come back
in the input's dtype, scalars in float32. Transforms of ``torch.func`` in reverse mode, ``grad``,
``vmap`` and ``jacrev``, run the same kernels, a batched call once for each sample; plain PyTorch
runs for second derivatives, and for ``multiscale_fuse`` and ``guided_upsample_fuse``.
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
from fastmef.functional.mef_ssim import mef_ssim
from fastmef.functional.multiscale import exposure_pyramid, multiscale_fuse
from fastmef.functional.shares import exposure_shares
from fastmef.functional.ssim import ssim

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
