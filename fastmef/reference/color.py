"""Convert RGB images to grey, and grey values to 8 bits."""

from __future__ import annotations

import torch
from torch import Tensor

# The first row of inv([1 0.956 0.621; 1 -0.272 -0.647; 1 -1.106 1.703]), which MATLAB's rgb2gray
# uses instead of the rounded 0.299, 0.587, 0.114: scores must agree with MATLAB's.
GRAY_COEFFICIENTS = (0.298936021293775, 0.587043074451121, 0.114020904255103)


def rgb_to_gray(images: Tensor, dim: int = -3) -> Tensor:
    r"""Return the luma of RGB images, as MATLAB's ``rgb2gray`` computes it (ITU-R BT.601).

    :math:`Y = 0.2989\,R + 0.5870\,G + 0.1140\,B`

    Args:
        images: floating point, 3 channels along ``dim``.
        dim: the channel axis.

    Returns:
        ``images`` without the axis ``dim``, same dtype.
    """
    red, green, blue = images.unbind(dim)
    r, g, b = GRAY_COEFFICIENTS
    return r * red + g * green + b * blue


def round_to_8bit(images: Tensor) -> Tensor:
    """Return the nearest 8-bit level of images in [0, 1], as uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
