"""The objective that the released weights were trained on: a weighted sum of terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastmef import functional
from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_at_least, check_choice, check_float, check_same_kind
from fastmef.functional._gamma import Gamma
from fastmef.functional._images import check_exposures, check_fused, to_luma
from fastmef.functional.mef_ssim import check_variant
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss, WeightedSSIMLoss
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference.mef_color2018 import Color2018Sources
from fastmef.reference.mef_ma2015 import ma2015_combine
from fastmef.reference.mef_mefnet import MefnetSources
from fastmef.reference.pyramid import reduce

WEIGHTS = {
    "structure": 0.0,
    "mef_ssim": 1.5,
    "mef_ssim_1_scale": 1.0,
    "mefnet": 0.35,
    "color2018": 0.5,
    "brightness": 0.0,
    "color": 0.0,
}
"""The weights of the terms in the objective of the weights ``default``."""

SCALES = (0.4, 0.35, 0.25)
"""The weights of the levels of the γ-weighted SSIM in that objective."""


class ObjectiveOutput(NamedTuple):
    """The result of :class:`FusionObjective`."""

    total: Tensor
    """The weighted sum of the terms, a scalar."""
    terms: dict[str, Tensor]
    """Each term whose weight is above 0, not multiplied by the weight."""


class MEFSSIMLoss(nn.Module):
    r"""Score fused images by MEF-SSIM, as a loss.

    .. math:: L = 1 - \operatorname{mean}_b \text{MEF-SSIM}(F_b, I_b)

    Args:
        variant, scales: as for :func:`fastmef.functional.mef_ssim`.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)``, or grey with or without a channel
        axis of size 1, uint8 or floating point in [0, 1] → scalar.

    Raises:
        InputError: an unknown variant or number of scales, or images that do not fit.

    Example:
        >>> fused, exposures = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 32, 32)
        >>> bool(MEFSSIMLoss("mefnet")(fused, exposures) > 0)
        True
    """

    def __init__(self, variant: str = "ma2015", scales: int | None = None) -> None:
        super().__init__()
        check_variant(variant, scales)
        self.variant, self.scales = variant, scales

    def forward(self, fused: Tensor, exposures: Tensor) -> Tensor:
        return 1 - functional.mef_ssim(fused, exposures, self.variant, self.scales).mean()

    def extra_repr(self) -> str:
        return f"variant={self.variant!r}, scales={self.scales}"


class FusionObjective(nn.Module):
    r"""Compute the weighted sum of loss terms that the released weights were trained on.

    .. math:: L = \sum_t w_t L_t

    ====================  =====================================================================
    ``structure``         :class:`WeightedSSIMLoss`, the paper's loss, with ``gamma``,
                          ``luminance`` and ``scales``
    ``mef_ssim``          :class:`MEFSSIMLoss` ``("ma2015", 3)``
    ``mef_ssim_1_scale``  :class:`MEFSSIMLoss` ``("ma2015", 1)``: the finest of the three scales has
                          7 % of the weight in the score
    ``mefnet``            :class:`MEFSSIMLoss` ``("mefnet")``, structure times luminance
    ``color2018``         :class:`MEFSSIMLoss` ``("color2018")`` of images at half size
    ``brightness``        :class:`BrightnessLoss`
    ``color``             :class:`ColorContrastLoss`
    ====================  =====================================================================

    Maps that several terms need are computed once.

    Args:
        weights: a weight ≥ 0 for each term to compute, under its name; by default the weights with
            which the network ``default`` was trained. The paper's loss is ``{"structure": 1.0}``
            with ``scales=(1.0,)``.
        gamma, luminance, scales: as for :class:`WeightedSSIMLoss`.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)``, or grey with or without a channel
        axis of size 1 where ``color2018`` has no weight; floating point in [0, 1] →
        :class:`ObjectiveOutput`.

    Raises:
        InputError: an unknown term, a negative weight, no weight above 0, images that do not fit.

    Source: see the terms; the weights and the combination are this package's.

    Example:
        >>> objective = FusionObjective({"structure": 1.0, "brightness": 0.1})
        >>> fused, exposures = torch.rand(1, 3, 64, 64), torch.rand(1, 2, 3, 64, 64)
        >>> total, terms = objective(fused, exposures)
        >>> sorted(terms)
        ['brightness', 'structure']
        >>> torch.testing.assert_close(total, terms["structure"] + 0.1 * terms["brightness"])
    """

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        gamma: Gamma = "variance_gradient",
        luminance: bool = False,
        scales: Sequence[float] = SCALES,
    ) -> None:
        super().__init__()
        self.weights = _checked_weights(WEIGHTS if weights is None else weights)
        self.structure = WeightedSSIMLoss(gamma, luminance, scales=scales)
        self.brightness = BrightnessLoss()
        self.color = ColorContrastLoss()

    def forward(
        self, fused: Tensor, exposures: Tensor, logits: Tensor | None = None
    ) -> ObjectiveOutput:
        """Compute the terms and their sum.

        Args:
            fused: ``(B, 3, H, W)`` or grey.
            exposures: ``(B, K, 3, H, W)`` or grey.
            logits: ``(B, K, H, W)``, if ``fused`` is the sum of the exposures weighted by their
                softmax. The paper's loss is then computed from the logits, which needs no gradient
                w.r.t. an RGB image.
        """
        check_float("fused", fused)
        check_float("exposures", exposures)
        check_exposures(exposures, needs_color="color2018" in self.weights)
        check_fused(fused, exposures)
        check_same_kind("fused", fused, "exposures", exposures)
        weights = self.weights
        sources = self._sources(exposures)
        gray = to_luma(fused, 3)
        terms: dict[str, Tensor] = {}
        if "structure" in weights:
            if logits is None:
                terms["structure"] = self.structure(fused, exposures)
            else:
                terms["structure"] = self.structure.from_logits(logits, exposures)
        if sources.ma2015 is not None:
            qualities = STEPS.ma2015_qualities(sources.ma2015, gray)
            if "mef_ssim" in weights:
                terms["mef_ssim"] = 1 - ma2015_combine(qualities).mean()
            if "mef_ssim_1_scale" in weights:
                terms["mef_ssim_1_scale"] = 1 - qualities[:, 0].mean()
        if sources.mefnet is not None:
            luminance, structure = STEPS.mefnet_factors(sources.mefnet, gray)
            terms["mefnet"] = 1 - (luminance * structure).mean()
        if sources.color2018 is not None:
            terms["color2018"] = 1 - STEPS.color2018_score(sources.color2018, reduce(fused)).mean()
        if "brightness" in weights:
            terms["brightness"] = self.brightness(fused, exposures)
        if "color" in weights:
            terms["color"] = self.color(fused, exposures)
        weighted = [weights[name] * terms[name] for name in WEIGHTS if name in terms]
        return ObjectiveOutput(torch.stack(weighted).sum(), terms)

    def extra_repr(self) -> str:
        return f"weights={self.weights}"

    @torch.no_grad()
    def _sources(self, exposures: Tensor) -> _Sources:
        """Compute the maps of the exposures that the terms need."""
        scales = [("mef_ssim", 3), ("mef_ssim_1_scale", 1)]
        wanted = [count for name, count in scales if name in self.weights]
        ma2015 = mefnet = color2018 = None
        if wanted or "mefnet" in self.weights:
            gray = to_luma(exposures, 4)
            if wanted:
                ma2015 = STEPS.ma2015_sources(gray, max(wanted))
            if "mefnet" in self.weights:
                mefnet = STEPS.mefnet_sources(gray)
        if "color2018" in self.weights:
            color2018 = STEPS.color2018_sources(functional.exposure_pyramid(exposures, 1).base)
        return _Sources(ma2015, mefnet, color2018)


class _Sources(NamedTuple):
    """The maps that depend on the exposures of a batch only; ``None`` if no term needs them."""

    ma2015: tuple[Any, ...] | None
    mefnet: MefnetSources | None
    color2018: Color2018Sources | None


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights above 0, in the order of :data:`WEIGHTS`."""
    if not isinstance(weights, Mapping):
        raise InputError(f"weights must be a dict, got {shown(weights)}")
    for name, value in weights.items():
        check_choice("a term of the objective", name, tuple(WEIGHTS))
        check_at_least(f"the weight of {name}", value, 0)
    above = {name: float(weights[name]) for name in WEIGHTS if weights.get(name, 0) > 0}
    if not above:
        raise InputError(
            f"one weight of {', '.join(WEIGHTS)} must be above 0, got {shown(weights)}"
        )
    return above
