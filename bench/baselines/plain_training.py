"""The paper's network in plain PyTorch, as users write it without this package.

Its parameters have the same order and shapes as those of FusionNet(2), so it can copy them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (2, 2, 3, 3)


class PlainNet(nn.Module):
    """Predict logits ``(B, 2, H, W)`` of grey exposures ``(B, 2, H, W)``."""

    def __init__(self, width: int, padding: str) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(len(DEPTHS))]
        inputs = [2, *channels[:-1]]
        self.encoder = nn.ModuleList(map(_group, inputs, channels, DEPTHS, [padding] * 4))
        inputs = [channels[-1], *reversed(channels[1:])]
        arguments = (inputs, channels[::-1], DEPTHS[::-1], [padding] * 4)
        self.decoder = nn.ModuleList(map(_group, *arguments))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, exposures: Tensor) -> Tensor:
        height, width = exposures.shape[-2:]
        features = F.pad(exposures, (0, -width % 8, 0, -height % 8), mode="replicate")
        for level, group in enumerate(self.encoder):
            features = group(F.max_pool2d(features, 2) if level else features)
        for level, group in enumerate(self.decoder):
            if level:
                features = F.interpolate(
                    features, scale_factor=2, mode="bilinear", align_corners=False
                )
            features = group(features)
        return self.head(features)[..., :height, :width]

    def take_over(self, network: nn.Module) -> None:
        """Copy the parameters and buffers of a FusionNet."""
        for own, other in zip(
            self.state_dict().values(), network.state_dict().values(), strict=True
        ):
            with torch.no_grad():
                own.copy_(other)


def _group(inputs: int, channels: int, depth: int, padding: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(inputs, channels, 3, padding=1, padding_mode=padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        inputs = channels
    return nn.Sequential(*layers)
