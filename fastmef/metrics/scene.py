"""Score many results of one scene by MEF-SSIM, and name the score."""

from __future__ import annotations

from torch import Tensor

from fastmef.functional.mef_ssim import (
    check_range,
    check_scored,
    check_scored_exposures,
    check_variant,
    without_gray_axis,
)
from fastmef.ops.common.autograd import detach_if_no_grad
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference.mef_ssim import mef_ssim_score, mef_ssim_sources


class MEFSSIM:
    """Compute :func:`mef_ssim` of many results of the same exposures, which are analysed once.

    Arguments and errors are those of :func:`mef_ssim`. ``name`` is the name of the score.

    Example:
        >>> exposures = torch.rand(1, 2, 3, 32, 32)
        >>> metric = MEFSSIM(exposures, "mefnet")
        >>> metric.name
        'MEF-SSIM mefnet, l×cs'
        >>> scores = [metric.score(exposures[:, k]) for k in (0, 1)]
        >>> scores[0].shape
        torch.Size([1])
    """

    def __init__(
        self, exposures: Tensor, variant: str = "ma2015", scales: int | None = None
    ) -> None:
        self.name = score_name(variant, scales)
        check_scored_exposures(exposures, needs_color=variant == "color2018")
        check_range("exposures", exposures)
        self._exposures = exposures
        images = without_gray_axis(exposures, 4)
        self._sources = mef_ssim_sources(images, variant, scales, STEPS)

    def score(self, fused: Tensor) -> Tensor:
        """Return the scores ``(B,)`` of fused images."""
        check_scored(fused, self._exposures)
        if not detach_if_no_grad(fused).requires_grad:
            check_range("fused", fused)
        return mef_ssim_score(self._sources, without_gray_axis(fused, 3), STEPS)


def score_name(variant: str = "ma2015", scales: int | None = None) -> str:
    """Return the name to print with a score.

    Raises:
        InputError: an unknown variant, or a number of scales that it does not have.

    Example:
        >>> score_name("ma2015", 3)
        'MEF-SSIM ma2015, 3 scales'
    """
    check_variant(variant, scales)
    if variant == "ma2015":
        return f"MEF-SSIM ma2015, {'1 scale' if scales == 1 else '3 scales'}"
    factors = {"mefnet": "mefnet, l×cs", "mefnet_cs": "mefnet, cs only"}
    return f"MEF-SSIM {factors.get(variant, variant)}"
