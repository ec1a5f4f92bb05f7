"""Synthetic photographs of a scene, and an untrained network."""

from __future__ import annotations

import numpy as np
import torch

from fastmef.nn.network import FusionNet


def photographs(height: int, width: int, count: int = 2, seed: int = 0) -> list[np.ndarray]:
    """Return exposures of a textured bright gradient with a dark corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    light = np.exp(3 * x - 2 * y)[..., None] * np.array([1.0, 0.9, 0.7])
    light = light * rng.uniform(0.8, 1.2, (height, width, 1))
    stops = np.linspace(-3, 1.5, count)
    return [np.uint8(255 * np.clip(light * 2**stop, 0, 1) ** (1 / 2.2)) for stop in stops]


def random_network(exposures: int | str, seed: int = 0) -> FusionNet:
    """Return a small network with random weights, whose weight maps vary over the image."""
    torch.manual_seed(seed)
    network = FusionNet(exposures, width=4, skip_connections=True)
    torch.nn.init.normal_(network.body.head.weight)
    return network


def as_stack(images: list[np.ndarray]) -> torch.Tensor:
    """Return images as ``(1, K, 3, H, W)``, float64 in [0, 1]."""
    pixels = np.stack(images)
    stack = torch.from_numpy(pixels / np.iinfo(pixels.dtype).max)
    return stack.permute(0, 3, 1, 2)[None]
