"""Scores of a network in training, on whole images rounded to 8 bit as they would be saved."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from fastmef.data.pairs import Scene
from fastmef.inference.fuse import fuse
from fastmef.inference.inputs import check_bracket
from fastmef.metrics import score_images
from fastmef.nn.network import FusionNet

TRIAL_SIDE = 64


def try_validation(network: FusionNet, scenes: Sequence[Scene]) -> None:
    """Read and fuse every scene once, at a corner, so that training need not fail hours later.

    Raises:
        InputError: an image cannot be read, or the exposures of a scene do not fit one another or
            the network.
    """
    validate(network, scenes, TRIAL_SIDE)


def validate(
    network: FusionNet, scenes: Sequence[Scene], side: int | None = None
) -> dict[str, float]:
    """Return the mean of every score over the scenes, of the fusion by the network alone.

    ``side``: only the upper left corner of this many pixels is fused and scored.
    """
    totals: dict[str, list[float]] = {}
    for scene in scenes:
        images = [image[:side, :side] for image in check_bracket(scene.images)]
        exposures = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images])[None]
        fused = torch.from_numpy(fuse(images, network, refine=0)).permute(2, 0, 1)[None]
        for name, value in score_images(fused, exposures).items():
            totals.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in totals.items()}
