"""The operations behind :mod:`fastmef.functional`: one file each, backend choice included."""

from fastmef.ops import filters, fusion, guided, loss, mef_ssim, multiscale, norm_act, ssim

__all__ = ["filters", "fusion", "guided", "loss", "mef_ssim", "multiscale", "norm_act", "ssim"]
