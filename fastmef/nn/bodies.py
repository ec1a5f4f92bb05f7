"""Encoder-decoders that map exposures to logits, for a fixed and for any number of exposures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmef.nn.blocks import ConvGroup, follow
from fastmef.nn.exposure_blocks import ExposureGroup, upsample_and_join
from fastmef.ops.norm_act import BORDER

DEPTHS = (2, 2, 3, 3)  # convolutions between the pools of VGG16, its first ten
STRIDE = 2 ** (len(DEPTHS) - 1)
LEVELS = 4  # resolutions of the network for any number of exposures


class StackBody(nn.Module):
    """Predict logits with the paper's network, in which K exposures are the channels of one image.

    Shape:
        planes ``(B, K planes_per_exposure, H, W)``, H and W multiples of :data:`STRIDE` →
        ``(B, K, H, W)``.
    """

    def __init__(
        self,
        exposures: int,
        planes: int,
        width: int,
        skip_connections: bool,
        upsampling: str,
        padding: str,
    ) -> None:
        super().__init__()
        self.skip_connections, self.upsampling = skip_connections, upsampling
        self.replicates = padding == "replicate"
        channels = [width * 2**level for level in range(len(DEPTHS))]
        inputs = exposures * planes
        self.encoder = nn.ModuleList()
        for channel, depth in zip(channels, DEPTHS, strict=True):
            self.encoder.append(ConvGroup(inputs, channel, depth, padding))
            inputs = channel
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(DEPTHS))):
            joined = channels[level] if skip_connections and level < len(DEPTHS) - 1 else 0
            self.decoder.append(ConvGroup(inputs + joined, channels[level], DEPTHS[level], padding))
            inputs = channels[level]
        self.head = small_head(width, exposures)

    def forward(self, features: Tensor) -> Tensor:
        skips, skipped, has_border = self.skip_connections, [], False
        border = f" {BORDER}" if self.replicates else ""
        for group in self.encoder[:-1]:
            whole, features = group(features, "pool" + border, skips, has_border)
            has_border = bool(border)
            if skips:
                skipped.append(whole)
        features, has_border = self.encoder[-1](features, has_border=has_border), False
        # Joined features have no border until they are joined.
        border = "" if skips else border
        for group in self.decoder[:-1]:
            then = self.upsampling + border
            _, features = group(features, then, keep=False, has_border=has_border)
            has_border = bool(border)
            if skips:
                features = torch.cat((features, skipped.pop()), dim=1)
        return self.head(self.decoder[-1](features, has_border=has_border))


class ExposureBody(nn.Module):
    """Predict logits for any number of exposures with one set of weights.

    Each exposure runs through the same U-Net of four resolutions. Every group also reads the mean
    and the maximum over all exposures (:class:`~fastmef.nn.exposure_blocks.ExposureGroup`).
    Permuting the exposures permutes the logits.

    Shape:
        planes ``(B K, planes_per_exposure, H, W)``, H and W multiples of :data:`STRIDE`, shares
        ``(B, K)`` → ``(B K, 1, H, W)``.
    """

    def __init__(self, planes: int, width: int, skip_connections: bool, upsampling: str) -> None:
        super().__init__()
        self.skip_connections, self.upsampling = skip_connections, upsampling
        channels = [width * 2**level for level in range(LEVELS)]
        inputs = planes
        self.encoder = nn.ModuleList()
        for level, channel in enumerate(channels):
            self.encoder.append(ExposureGroup(inputs, channel, whole_scene=level == LEVELS - 1))
            inputs = channel
        self.decoder = nn.ModuleList()
        for level in reversed(range(LEVELS - 1)):
            joined = channels[level] if skip_connections else 0
            self.decoder.append(ExposureGroup(inputs + joined, channels[level]))
            inputs = channels[level]
        self.head = small_head(width, 1)

    def forward(self, features: Tensor, shares: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        for group in self.encoder[:-1]:
            whole, features = group(features, shares, "pool")
            if self.skip_connections:
                skipped.append(whole)
        features = self.encoder[-1](features, shares)
        for group in self.decoder:
            if self.skip_connections:
                features = upsample_and_join(features, self.upsampling, skipped.pop())
            else:
                features = follow(features, self.upsampling)
            features = group(features, shares)
        return self.head(features)


def small_head(channels: int, logits: int) -> nn.Conv2d:
    """Return a 1×1 convolution whose logits are small.

    Training starts near the plain mean, where every exposure has a gradient.
    """
    head = nn.Conv2d(channels, logits, 1)
    nn.init.normal_(head.weight, std=1e-2)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    return head
