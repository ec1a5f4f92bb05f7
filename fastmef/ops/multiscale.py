"""multiscale_fuse: softmax weights for the base, bands of detail by the variance of luma."""

from __future__ import annotations

from torch import Tensor

from fastmef import reference
from fastmef.reference.multiscale import ExposurePyramid, Knee


def exposure_pyramid(exposures: Tensor, levels: int, valid: Tensor | None) -> ExposurePyramid:
    return reference.exposure_pyramid(exposures, levels, valid)


def multiscale_fuse(
    logits: Tensor | None,
    exposures: Tensor,
    pyramid: ExposurePyramid,
    base: Tensor | None,
    shares: Tensor | None,
    contrasts: tuple[float | Tensor, ...],
    radius: int,
    floor: float,
    knee: Knee | None,
    valid: Tensor | None,
) -> Tensor:
    return reference.multiscale_fuse(
        logits,
        exposures,
        len(contrasts),
        base=base,
        pyramid=pyramid,
        shares=shares,
        contrast=contrasts,
        radius=radius,
        floor=floor,
        knee=knee,
        valid=valid,
    )
