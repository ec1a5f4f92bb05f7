"""MEF-SSIM in its published variants.

The variants differ by more than fusion methods do: a score means nothing without its variant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef.reference.color import rgb_to_gray, round_to_8bit
from fastmef.reference.mef_color2018 import Color2018Sources, color2018_score, color2018_sources
from fastmef.reference.mef_ma2015 import (
    BETA,
    Ma2015Level,
    ma2015_combine,
    ma2015_qualities,
    ma2015_sources,
)
from fastmef.reference.mef_mefnet import MefnetSources, mefnet_factors, mefnet_sources

VARIANTS = ("ma2015", "mefnet", "mefnet_cs", "color2018")


class MefSsimSources(NamedTuple):
    """The maps of one variant, from :func:`mef_ssim_sources`."""

    variant: str
    maps: tuple[Ma2015Level, ...] | MefnetSources | Color2018Sources


def unit_range(images: Tensor) -> Tensor:
    """Return float32 or float64 images in [0, 1]; uint8 becomes float64 where the device has it."""
    if images.dtype == torch.uint8:
        dtype = torch.float32 if images.device.type == "mps" else torch.float64
        return images.to(dtype) / 255
    return images if images.dtype == torch.float64 else images.to(torch.float32)


def score_input(images: Tensor, variant: str, is_gray: bool) -> Tensor:
    """Return the images in [0, 1] that ``variant`` compares: RGB for color2018, else grey.

    ma2015 rounds the grey values of uint8 colour images to 8 bit, as MATLAB's ``rgb2gray`` does;
    floating point images are never rounded, so that the score stays differentiable.
    """
    values = unit_range(images)
    if is_gray or variant == "color2018":
        return values
    gray = rgb_to_gray(values)
    if variant == "ma2015" and images.dtype == torch.uint8:
        return round_to_8bit(gray).to(values.dtype) / 255
    return gray


class Steps(NamedTuple):
    """The functions that a faster backend replaces; signatures are those of the reference."""

    score_input: Callable[[Tensor, str, bool], Tensor] = score_input
    ma2015_sources: Callable[..., Any] = ma2015_sources
    ma2015_qualities: Callable[..., Tensor] = ma2015_qualities
    mefnet_sources: Callable[[Tensor], MefnetSources] = mefnet_sources
    mefnet_factors: Callable[[MefnetSources, Tensor], tuple[Tensor, Tensor]] = mefnet_factors
    color2018_sources: Callable[[Tensor], Color2018Sources] = color2018_sources
    color2018_score: Callable[[Color2018Sources, Tensor], Tensor] = color2018_score


REFERENCE = Steps()


def mef_ssim_sources(
    exposures: Tensor, variant: str = "ma2015", scales: int | None = None, steps: Steps = REFERENCE
) -> MefSsimSources:
    """Compute the maps that depend on the exposures only, once for many fused images."""
    images = steps.score_input(exposures, variant, exposures.dim() == 4)
    if variant == "ma2015":
        levels = steps.ma2015_sources(images, len(BETA) if scales is None else scales)
        return MefSsimSources(variant, levels)
    if variant == "color2018":
        return MefSsimSources(variant, steps.color2018_sources(images))
    return MefSsimSources(variant, steps.mefnet_sources(images))


def mef_ssim_score(sources: MefSsimSources, fused: Tensor, steps: Steps = REFERENCE) -> Tensor:
    """Score fused images with the maps of :func:`mef_ssim_sources`: ``(B,)`` in their dtype."""
    variant, maps = sources
    image = steps.score_input(fused, variant, fused.dim() == 3)
    if isinstance(maps, Color2018Sources):
        return steps.color2018_score(maps, image.to(maps.exposures.dtype))
    if isinstance(maps, MefnetSources):
        luminance, structure = steps.mefnet_factors(maps, image.to(maps.exposures.dtype))
        return luminance * structure if variant == "mefnet" else structure
    return ma2015_combine(steps.ma2015_qualities(maps, image.to(maps[0].exposures.dtype)))


def mef_ssim(
    fused: Tensor, exposures: Tensor, variant: str = "ma2015", scales: int | None = None
) -> Tensor:
    r"""Return how much of the exposures' structure a fused image keeps, ≤ 1, best 1.

    Args:
        fused: ``(B, 3, H, W)`` RGB or ``(B, H, W)`` grey; uint8, or floating point in [0, 1].
            Gradients flow to it.
        exposures: ``(B, K, 3, H, W)`` RGB or ``(B, K, H, W)`` grey, likewise. No gradient flows to
            them.
        variant: ``"ma2015"`` (:func:`~fastmef.reference.mef_ma2015.ma2015_score`), ``"mefnet"`` and
            ``"mefnet_cs"`` (:func:`~fastmef.reference.mef_mefnet.mefnet_score` with and without the
            luminance factor) or ``"color2018"``
            (:func:`~fastmef.reference.mef_color2018.color2018_score`, RGB only).
        scales: number of scales of ma2015, 3 by default; the other variants have one.

    Returns:
        ``(B,)``; float64 for uint8 exposures, else in the exposures' dtype (at least float32).
    """
    return mef_ssim_score(mef_ssim_sources(exposures, variant, scales), fused)
