"""Empty tensors are refused in one line, by kernels and plain PyTorch alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import FusionNet, WeightedSSIMLoss, functional
from fastmef.errors import InputError
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss

# Shapes of grey exposures (B, K, H, W) and coloured ones (B, K, 3, H, W).
CALLS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "local_variance": lambda gray, _: functional.local_variance(gray),
    "sobel_gradient": lambda gray, _: functional.sobel_gradient(gray),
    "gamma_weights": lambda gray, _: functional.gamma_weights(gray),
    "ssim": lambda gray, _: functional.ssim(gray, gray),
    "weighted_ssim_loss": lambda gray, _: functional.weighted_ssim_loss(_first(gray), gray),
    "fusion_loss": lambda gray, _: functional.fusion_loss(gray, gray),
    "softmax_fuse": functional.softmax_fuse,
    "guided_upsample_fuse": functional.guided_upsample_fuse,
    "exposure_pyramid": lambda _, color: functional.exposure_pyramid(color, 1),
    "exposure_shares": lambda _, color: functional.exposure_shares(color),
    "multiscale_fuse": functional.multiscale_fuse,
    "mef_ssim": lambda gray, _: functional.mef_ssim(_first(gray), gray),
    "mef_ssim-mefnet": lambda gray, _: functional.mef_ssim(_first(gray), gray, "mefnet"),
    "mef_ssim-color": lambda _, color: functional.mef_ssim(_first(color), color, "color2018"),
    "FusionNet": lambda _, color: FusionNet(width=2)(color),
    "FusionNet-any": lambda _, color: FusionNet("any", width=2)(color),
    "WeightedSSIMLoss": lambda _, color: WeightedSSIMLoss()(_first(color), color),
    "ColorContrastLoss": lambda _, color: ColorContrastLoss()(_first(color), color),
    "BrightnessLoss": lambda _, color: BrightnessLoss()(_first(color), color),
}


def _first(exposures: Tensor) -> Tensor:
    """Return a tensor with the shape of one exposure, also if it is empty."""
    return exposures.new_zeros(exposures.shape[:1] + exposures.shape[2:])


def test_every_public_operation_is_here() -> None:
    assert {name.split("-")[0] for name in CALLS} >= set(functional.__all__) - {"well_exposedness"}


@pytest.mark.parametrize("shape", [(0, 2, 16, 16), (1, 0, 16, 16), (1, 2, 0, 16), (1, 2, 16, 0)])
@pytest.mark.parametrize("name", CALLS)
def test_is_refused(name: str, shape: tuple[int, ...]) -> None:
    batch, count, height, width = shape
    with pytest.raises(InputError) as caught:
        CALLS[name](torch.zeros(shape), torch.zeros(batch, count, 3, height, width))
    assert str(tuple(shape[:2]))[1:-1] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_has_no_exposedness() -> None:
    assert functional.well_exposedness(torch.zeros(0, 3)).shape == (0, 3)
