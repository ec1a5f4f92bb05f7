"""Score fused images, and average scores over scenes and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from fastmef.data.pairs import Scene
from fastmef.experiments.photographs import Image, frames
from fastmef.experiments.store import Values
from fastmef.functional import sobel_gradient
from fastmef.inference.fuse import fuse
from fastmef.inference.simple import as_tensor
from fastmef.metrics import SceneScores
from fastmef.nn.network import FusionNet
from fastmef.reference.color import rgb_to_gray

VARIANTS = ("ma2015_1_scale", "ma2015_3_scales", "mefnet_cs", "mefnet", "color2018")
"""The variants of MEF-SSIM among the keys of :func:`fastmef.metrics.score_images`."""

Fuse = Callable[[Sequence[Image]], Image]


def stack(images: Sequence[Image]) -> Tensor:
    """Return images as one uint8 tensor ``(1, K, 3, H, W)``."""
    return as_tensor(*map(np.ascontiguousarray, images))[None]


def network_fusion(network: FusionNet | str) -> Fuse:
    """Return a fusion function with a network alone: no descent, no restored colour."""
    return lambda images: fuse(images, network, color=0, refine=0)


def score_scenes(scenes: Iterable[Scene], fusion: Fuse) -> Values:
    """Return the means of :func:`score` over scenes."""
    return mean_of([score(fusion(images), images) for images in map(frames, scenes)])


def score(fused: Image, exposures: Sequence[Image]) -> dict[str, float]:
    """Return every score of :func:`fastmef.metrics.score_images`, and ``detail``.

    ``detail`` is the mean Sobel magnitude of the luma of the result, divided by the mean of the
    largest magnitude among the exposures at every pixel.
    """
    sources, result = stack(exposures), stack([fused])[:, 0]
    scores = SceneScores(sources).score(result)
    gradients = sobel_gradient(rgb_to_gray(sources.float() / 255)).amax(dim=1)
    kept = sobel_gradient(rgb_to_gray(result.float() / 255))
    return scores | {"detail": float(kept.mean() / gradients.mean().clamp_min(1e-6))}


def mean_of(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every value over records with the same keys."""
    return {key: statistics.fmean(record[key] for record in records) for key in records[0]}


def mean_and_deviation(records: Sequence[Mapping[str, float]], key: str) -> tuple[float, float]:
    """Return mean and standard deviation of a value; the deviation of a single value is 0."""
    values = [record[key] for record in records]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
