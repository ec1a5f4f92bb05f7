"""The operations behind :mod:`fastmef.functional`: one file each, backend choice included."""

from fastmef.ops import filters, fusion, loss, mef_ssim, ssim

__all__ = ["filters", "fusion", "loss", "mef_ssim", "ssim"]
