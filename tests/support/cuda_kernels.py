"""The CUDA C++ kernels of registered operations; dispatch would run others for CPU tensors."""

from fastmef.ops import fusion, guided
from fastmef.ops.loss import WEIGHTED_SSIM_LOSS
from fastmef.ops.scale_gradient import SCALE_GRADIENT

fuse = fusion.SOFTMAX_FUSE.kernels["softmax_fuse"]["cuda"]
fuse_backward = fusion.SOFTMAX_FUSE.kernels["softmax_fuse_backward"]["cuda"]
guided_guide = guided.GUIDED_UPSAMPLE_FUSE.kernels["guided_guide"]["cuda"]
guided_fuse = guided.GUIDED_UPSAMPLE_FUSE.kernels["guided_fuse"]["cuda"]
loss = WEIGHTED_SSIM_LOSS.kernels["weighted_ssim_loss"]["cuda"]
scale = SCALE_GRADIENT.kernels["scale_gradient_"]["cuda"]
