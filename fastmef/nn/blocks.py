"""Convolution groups of the encoder-decoder."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fastmef.nn.norm_act import follows_fused, fused_norm_act, is_fused


class ConvNormAct(nn.Sequential):
    """3×3 convolution (zero padding), batch normalisation, ReLU.

    What comes next, see :func:`follow`, can be asked for with it: then the result is the pair of
    both, and kernels that normalise need one pass less. ``keep=False`` says that only the second
    is wanted.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        # The normalisation would subtract any bias again.
        convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        super().__init__(
            convolution,
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor, then: str = "", keep: bool = True) -> Any:
        convolution, norm, activation = self
        features = convolution(features)
        if not is_fused(features, norm):
            features = activation(norm(features))
        elif follows_fused(then, keep):
            return fused_norm_act(features, norm, then, keep)
        else:
            features, _ = fused_norm_act(features, norm, "", True)
        return (features, follow(features, then)) if then else features


class ConvGroup(nn.Sequential):
    """``depth`` convolutions at one resolution, as between two pools of VGG16."""

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__(
            *(
                ConvNormAct(in_channels if i == 0 else out_channels, out_channels)
                for i in range(depth)
            )
        )

    def forward(self, features: Tensor, then: str = "", keep: bool = True) -> Any:
        *before, last = self
        for block in before:
            features = block(features)
        return last(features, then, keep)


def follow(features: Tensor, then: str) -> Tensor:
    """Half the size by ``"pool"`` (2×2 maximum), twice by ``"bilinear"`` or ``"nearest"``."""
    if then == "pool":
        return F.max_pool2d(features, 2)
    if then == "nearest":
        return F.interpolate(features, scale_factor=2, mode="nearest")
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
