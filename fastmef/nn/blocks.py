"""Convolution groups of the encoder-decoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """3×3 convolution (zero padding), batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        # The normalisation would subtract any bias again.
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        super().__init__(
            convolution,
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class ConvGroup(nn.Sequential):
    """``depth`` convolutions at one resolution, as between two pools of VGG16."""

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__(
            *(
                ConvNormAct(in_channels if i == 0 else out_channels, out_channels)
                for i in range(depth)
            )
        )


def upsample(features: Tensor, mode: str) -> Tensor:
    """Twice the size; ``mode`` is ``"bilinear"`` or ``"nearest"``."""
    if mode == "nearest":
        return F.interpolate(features, scale_factor=2, mode="nearest")
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
