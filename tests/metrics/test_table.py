"""Every score at once equals the scores one by one."""

from __future__ import annotations

import pytest
import torch

from fastmef.errors import InputError
from fastmef.metrics import (
    SCORES,
    SceneScores,
    brightness,
    mef_ssim,
    near_black,
    near_white,
    saturation,
    score_images,
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_equals_the_single_scores(dtype):
    scale = 255 if dtype == torch.uint8 else 1
    exposures = (torch.rand(2, 2, 3, 21, 18) * scale).to(dtype)
    fused = (torch.rand(2, 3, 21, 18) * scale).to(dtype)
    fused[..., :3], fused[..., -4:] = 0, scale
    expected = {
        "ma2015_1_scale": mef_ssim(fused, exposures, "ma2015", 1),
        "ma2015_3_scales": mef_ssim(fused, exposures, "ma2015"),
        "mefnet_cs": mef_ssim(fused, exposures, "mefnet_cs"),
        "mefnet": mef_ssim(fused, exposures, "mefnet"),
        "color2018": mef_ssim(fused, exposures, "color2018"),
        "saturation": saturation(fused),
        "brightness": brightness(fused),
        "near_white": near_white(fused),
        "near_black": near_black(fused),
    }
    scores = score_images(fused, exposures)
    assert list(scores) == list(SCORES) == list(expected)
    assert scores == pytest.approx({k: v.mean().item() for k, v in expected.items()}, abs=1e-7)


def test_a_scene_can_be_scored_again():
    exposures = torch.rand(1, 2, 3, 16, 16)
    scene = SceneScores(exposures)
    for fused in (exposures[:, 0], exposures[:, 1].double()):
        assert scene.score(fused) == pytest.approx(score_images(fused, exposures), abs=1e-7)


def test_errors():
    gray = torch.rand(1, 2, 8, 8)
    color = torch.rand(1, 2, 3, 8, 8)
    with pytest.raises(InputError, match=r"must be RGB.*got \(1, 2, 8, 8\)"):
        score_images(gray[:, 0], gray)
    with pytest.raises(InputError, match=r"exposures.*maximum of"):
        score_images(color[:, 0], color * 255)
    with pytest.raises(InputError, match=r"fused.*maximum of"):
        score_images(color[:, 0] * 255, color)
    with pytest.raises(InputError, match=r"fused must be \(1, 3, 8, 8\)"):
        score_images(color[:, 0, :, 1:], color)
