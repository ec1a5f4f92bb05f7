"""Compute every score of a result at once, for a row of a comparison table."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.functional.mef_ssim import check_range, check_scored, check_scored_exposures
from fastmef.metrics.brightness import (
    BLACK_LEVEL,
    WHITE_LEVEL,
    brightness,
    near_black,
    near_white,
)
from fastmef.metrics.saturation import saturation
from fastmef.metrics.scene import score_name
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference.mef_color2018 import color2018_score, color2018_sources
from fastmef.reference.mef_ma2015 import ma2015_combine

SCORES = {
    "ma2015_1_scale": score_name("ma2015", 1),
    "ma2015_3_scales": score_name("ma2015", 3),
    "mefnet_cs": score_name("mefnet_cs"),
    "mefnet": score_name("mefnet"),
    "color2018": score_name("color2018"),
    "saturation": "mean HSV saturation",
    "brightness": "mean luma, 0 to 255",
    "near_white": f"percent of pixels with a luma of {WHITE_LEVEL} or more",
    "near_black": f"percent of pixels with a luma of {BLACK_LEVEL} or less",
}
"""The keys of :func:`score_images`, in order, each with the name to print."""

DECIMALS = {"brightness": 1, "near_white": 2, "near_black": 2}
"""Decimals to print for the scores that do not lie in [0, 1]; the others take four."""


def _score_inputs(images: Tensor) -> list[Tensor]:
    """Return the images that ma2015, mefnet and color2018 compare."""
    return [STEPS.score_input(images, name, False) for name in ("ma2015", "mefnet", "color2018")]


class SceneScores:
    """Compute :func:`score_images` of many results of one scene, whose exposures are analysed once.

    Args:
        exposures: ``(B, K, 3, H, W)`` RGB; uint8, or floating point in [0, 1].

    Raises:
        InputError: as :func:`mef_ssim`; also for grey images.

    Example:
        >>> exposures = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8)
        >>> scene = SceneScores(exposures)
        >>> dark, bright = (scene.score(exposures[:, k]) for k in (0, 1))
        >>> dark.keys() == bright.keys() == SCORES.keys()
        True
    """

    def __init__(self, exposures: Tensor) -> None:
        check_scored_exposures(exposures, needs_color=True)
        check_range("exposures", exposures)
        self._exposures = exposures
        gray_8bit, gray, color = _score_inputs(exposures)
        self._ma2015 = STEPS.ma2015_sources(gray_8bit, 3)
        self._mefnet = STEPS.mefnet_sources(gray)
        self._color2018 = color2018_sources(color)

    @torch.no_grad()
    def score(self, fused: Tensor) -> dict[str, float]:
        """Return the means over the batch under the keys of :data:`SCORES`."""
        check_scored(fused, self._exposures)
        check_range("fused", fused)
        dtype = self._color2018.exposures.dtype
        gray_8bit, gray, color = (image.to(dtype) for image in _score_inputs(fused))
        qualities = STEPS.ma2015_qualities(self._ma2015, gray_8bit)
        luminance, structure = STEPS.mefnet_factors(self._mefnet, gray)
        scores = {
            "ma2015_1_scale": ma2015_combine(qualities[:, :1]),
            "ma2015_3_scales": ma2015_combine(qualities),
            "mefnet_cs": structure,
            "mefnet": luminance * structure,
            "color2018": color2018_score(self._color2018, color),
            "saturation": saturation(fused),
            "brightness": brightness(fused),
            "near_white": near_white(fused),
            "near_black": near_black(fused),
        }
        return {key: scores[key].mean().item() for key in SCORES}


def score_images(fused: Tensor, exposures: Tensor) -> dict[str, float]:
    """Return MEF-SSIM in every variant, saturation and brightness, averaged over the batch.

    Args:
        fused: ``(B, 3, H, W)`` RGB; uint8, or floating point in [0, 1]. Published scores of other
            methods are those of 8-bit results.
        exposures: ``(B, K, 3, H, W)`` RGB; uint8, or floating point in [0, 1].

    Returns:
        The keys of :data:`SCORES` in its order: ``ma2015_1_scale``, ``ma2015_3_scales``,
        ``mefnet_cs``, ``mefnet`` (l×cs), ``color2018``, ``saturation``, ``brightness`` (mean luma
        in 8-bit levels), ``near_white`` and ``near_black`` (percent of pixels).

    Raises:
        InputError: as :func:`mef_ssim`; also for grey images.

    Example:
        >>> exposures = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8)
        >>> list(score_images(exposures[:, 0], exposures))[:2]
        ['ma2015_1_scale', 'ma2015_3_scales']
    """
    return SceneScores(exposures).score(fused)
