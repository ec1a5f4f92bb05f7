"""An enlargement by 2 and the convolution after it, as one convolution of the small features.

Each of the four pixels that a small one is divided into is a 3×3 convolution of small pixels. With
as many products as after the enlargement, it reads a quarter of the features, and four times the
channels keep the processor's units busier.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Shares of a 3×3 kernel's taps before, at and behind a large pixel (columns) that fall on the small
# pixels before, at and behind it (rows), for the first large pixel of a small one. The second's are
# mirrored. Bilinear: the first large pixel is 1/4 of the small one before it and 3/4 of its own.
_SHARES = {
    "bilinear": ((0.75, 0.25, 0.0), (0.25, 0.75, 0.75), (0.0, 0.0, 0.25)),
    "nearest": ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
}


def enlarging_weight(weight: Tensor, upsampling: str) -> Tensor:
    """Return the weight for small features: ``(O, I, 3, 3)`` → ``(4 O, I, 3, 3)``.

    Channels of the large pixel in row p and column q of a small one begin at ``(2 p + q) O``.
    """
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    first = wide.new_tensor(_SHARES[upsampling])
    both = torch.stack((first, first.flip(0, 1)))
    pixels = torch.einsum("pld,qme,oide->pqoilm", both, both, wide)
    return pixels.flatten(0, 2).to(weight.dtype).contiguous(memory_format=torch.channels_last)


def spread_pixels(features: Tensor) -> Tensor:
    """Move ``(1, 4 O, h, w)``, channels last, to ``(1, O, 2 h, 2 w)``; see the weight."""
    _, channels, height, width = features.shape
    pixels = features[0].permute(1, 2, 0).reshape(height, width, 2, 2, channels // 4)
    large = pixels.transpose(1, 2).reshape(1, 2 * height, 2 * width, channels // 4)
    return large.permute(0, 3, 1, 2)
