"""Scores of a network in training, on whole images rounded to 8 bit as they would be saved."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from fastmef.data.images import read_image
from fastmef.data.pairs import Scene
from fastmef.inference.fuse import fuse
from fastmef.metrics import score_images
from fastmef.nn.network import FusionNet


def validate(network: FusionNet, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean of every score over the scenes, of the plain weighted sum by the network alone."""
    totals: dict[str, list[float]] = {}
    for scene in scenes:
        images = [read_image(path).pixels for path in scene.images]
        fused = torch.from_numpy(fuse(images, network, color=0, refine=0)).permute(2, 0, 1)[None]
        exposures = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images])[None]
        for name, value in score_images(exposures, fused).items():
            totals.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in totals.items()}
