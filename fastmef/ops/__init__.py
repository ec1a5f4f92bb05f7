"""The operations behind :mod:`fastmef.functional`, one file each: the declaration, and autograd.

``<operation>_kernels.py`` calls the kernels of each backend where that takes more than a few lines.
"""

from fastmef.ops import (
    filters,
    fusion,
    guided,
    loss,
    mef_ssim,
    multiscale,
    norm_act,
    ssim,
)

__all__ = [
    "filters",
    "fusion",
    "guided",
    "loss",
    "mef_ssim",
    "multiscale",
    "norm_act",
    "ssim",
]
