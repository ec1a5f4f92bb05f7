"""Grey images with and without a channel axis, and RGB, mean the same to losses and scores."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from fastmef import WeightedSSIMLoss, functional, metrics
from fastmef.errors import InputError
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss
from fastmef.reference import rgb_to_gray

PLANE, PLANES = torch.rand(2, 40, 37), torch.rand(2, 3, 40, 37)
LOGITS = torch.randn(2, 3, 40, 37)
COMPARED = {
    "weighted_ssim_loss": functional.weighted_ssim_loss,
    "WeightedSSIMLoss": WeightedSSIMLoss(scales=(0.7, 0.3)),
    "BrightnessLoss": BrightnessLoss(),
    "ColorContrastLoss": ColorContrastLoss(1),
    "mef_ssim": functional.mef_ssim,
    "mefnet": lambda f, x: functional.mef_ssim(f, x, "mefnet"),
    "MEFSSIM": lambda f, x: metrics.MEFSSIM(x).score(f),
}
OF_EXPOSURES = {
    "fusion_loss": lambda x: functional.fusion_loss(LOGITS, x),
    "from_logits": lambda x: WeightedSSIMLoss().from_logits(LOGITS, x),
    "exposure_shares": functional.exposure_shares,
    "gamma_weights": lambda x: functional.gamma_weights(x).reshape(2, 3, 30, 27),
    "softmax_fuse": lambda x: functional.softmax_fuse(LOGITS, x).reshape(2, -1, 40, 37)[:, 0],
    "multiscale_fuse": lambda x: functional.multiscale_fuse(
        LOGITS[..., :10, :9], x, pyramid=functional.exposure_pyramid(x, 2)
    ).reshape(2, -1, 40, 37)[:, 0],
}


def as_color(gray):
    return gray.unsqueeze(-3).expand(*gray.shape[:-2], 3, *gray.shape[-2:])


@pytest.mark.parametrize("name", COMPARED)
def test_gray_with_and_without_channels(name):
    compare = COMPARED[name]
    expected = compare(PLANE, PLANES)
    for fused, exposures in product((PLANE, PLANE.unsqueeze(1)), (PLANES, PLANES.unsqueeze(2))):
        assert torch.equal(compare(fused, exposures), expected)


@pytest.mark.parametrize("name", sorted(COMPARED.keys() - {"ColorContrastLoss"}))
def test_color_is_compared_by_its_luma(name):
    fused, exposures = torch.rand(2, 3, 40, 37), torch.rand(2, 3, 3, 40, 37)
    expected = COMPARED[name](rgb_to_gray(fused), rgb_to_gray(exposures))
    assert torch.equal(COMPARED[name](fused, exposures), expected)


@pytest.mark.parametrize("name", OF_EXPOSURES)
def test_exposures_alone(name):
    function = OF_EXPOSURES[name]
    expected = function(PLANES)
    assert torch.equal(function(PLANES.unsqueeze(2)), expected)
    torch.testing.assert_close(function(as_color(PLANES)), expected, rtol=2e-5, atol=1e-6)


def test_maps_keep_the_channel_axis():
    def loss_map(fused, exposures):
        return functional.weighted_ssim_loss(fused, exposures, reduction="none")

    expected = loss_map(PLANE, PLANES)
    assert expected.shape == (2, 30, 27)
    assert torch.equal(loss_map(PLANE.unsqueeze(1), PLANES), expected.unsqueeze(1))
    assert functional.gamma_weights(PLANES).shape == (2, 3, 30, 27)
    assert functional.gamma_weights(as_color(PLANES)).shape == (2, 3, 1, 30, 27)
    assert functional.softmax_fuse(LOGITS, PLANES).shape == (2, 40, 37)
    assert functional.softmax_fuse(LOGITS, PLANES.unsqueeze(2)).shape == (2, 1, 40, 37)
    assert functional.multiscale_fuse(LOGITS, PLANES).shape == (2, 40, 37)
    assert functional.multiscale_fuse(LOGITS, PLANES.unsqueeze(2)).shape == (2, 1, 40, 37)


def test_masks_with_and_without_channels():
    mask = torch.rand(2, 40, 37)
    expected = functional.weighted_ssim_loss(PLANE, PLANES, mask=mask)
    got = functional.weighted_ssim_loss(PLANE.unsqueeze(1), PLANES, mask=mask.unsqueeze(1))
    assert torch.equal(got, expected)
    assert expected != functional.weighted_ssim_loss(PLANE, PLANES)


@pytest.mark.parametrize("measure", [metrics.brightness, metrics.near_white, metrics.near_black])
def test_brightness_of_gray(measure):
    images = torch.rand(2, 1, 9, 8)
    expected = measure(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(measure(images), expected)


def test_gray_has_no_saturation():
    assert not metrics.saturation(torch.rand(2, 1, 9, 8)).any()


TAKES_TENSORS = {
    "local_variance": (functional.local_variance, ["images"]),
    "sobel_gradient": (functional.sobel_gradient, ["images"]),
    "well_exposedness": (functional.well_exposedness, ["images"]),
    "gamma_weights": (functional.gamma_weights, ["exposures"]),
    "exposure_shares": (functional.exposure_shares, ["base"]),
    "saturation": (metrics.saturation, ["images"]),
    "brightness": (metrics.brightness, ["images"]),
    "ssim": (functional.ssim, ["a", "b"]),
    "softmax_fuse": (functional.softmax_fuse, ["logits", "exposures"]),
    "guided_upsample_fuse": (functional.guided_upsample_fuse, ["logits", "exposures"]),
    "multiscale_fuse": (functional.multiscale_fuse, ["logits", "exposures"]),
    "fusion_loss": (functional.fusion_loss, ["logits", "exposures"]),
    "weighted_ssim_loss": (functional.weighted_ssim_loss, ["fused", "exposures"]),
    "mef_ssim": (functional.mef_ssim, ["fused", "exposures"]),
    "score_images": (metrics.score_images, ["fused", "exposures"]),
    "WeightedSSIMLoss": (WeightedSSIMLoss(), ["fused", "exposures"]),
    "from_logits": (WeightedSSIMLoss().from_logits, ["logits", "exposures"]),
    "BrightnessLoss": (BrightnessLoss(), ["fused", "exposures"]),
    "ColorContrastLoss": (ColorContrastLoss(), ["fused", "exposures"]),
}
TENSORS = {
    "images": torch.rand(1, 3, 16, 16),
    "base": torch.rand(1, 2, 3, 16, 16),
    "fused": torch.rand(1, 3, 16, 16),
    "exposures": torch.rand(1, 2, 3, 16, 16),
    "logits": torch.rand(1, 2, 16, 16),
    "a": torch.rand(1, 16, 16),
    "b": torch.rand(1, 16, 16),
}


@pytest.mark.parametrize("name", TAKES_TENSORS)
@pytest.mark.parametrize("convert", [np.asarray, torch.Tensor.tolist, lambda x: x.int()])
def test_lists_and_arrays_are_named(name, convert):
    function, names = TAKES_TENSORS[name]
    tensors = [TENSORS[each] for each in names]
    function(*tensors)
    for place, argument in enumerate(names):
        given = [*tensors]
        given[place] = convert(tensors[place])
        got = type(given[place]).__name__ if not isinstance(given[place], torch.Tensor) else "int32"
        with pytest.raises(InputError, match=f"^{argument} must .* got (torch.)?{got}$") as caught:
            function(*given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fused", "exposures", "message"),
    [
        ((1, 8, 8), (1, 2, 3, 8, 8), r"fused must be \(1, 3, 8, 8\) for exposures .* \(1, 8, 8\)$"),
        ((1, 3, 8, 8), (1, 2, 8, 8), r"fused must be \(1, 8, 8\) or \(1, 1, 8, 8\) for exposures"),
        ((1, 3, 8, 8), (1, 2, 1, 8, 8), r"got \(1, 3, 8, 8\)$"),
        ((2, 8, 8), (1, 2, 8, 8), r"got \(2, 8, 8\)$"),
        ((1, 8, 8), (1, 2, 2, 8, 8), r"exposures must be \(B, K, H, W\) or \(B, K, 1, H, W\) grey"),
        ((8, 8), (2, 8, 8), r"got \(2, 8, 8\)$"),
        ((1, 0, 8), (1, 2, 0, 8), r"exposures must not be empty, got \(1, 2, 0, 8\)$"),
    ],
)
@pytest.mark.parametrize("name", COMPARED)
def test_shapes_that_do_not_fit(name, fused, exposures, message):
    with pytest.raises(InputError, match=message):
        COMPARED[name](torch.zeros(fused), torch.zeros(exposures))
