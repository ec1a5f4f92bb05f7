"""The training objective is the stated sum of its terms."""

from __future__ import annotations

import pytest
import torch

from fastmef import WeightedSSIMLoss, functional
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss
from fastmef.training import TrainConfig
from fastmef.training.objective import Objective

TERMS = ("brightness", "color", "mef_ssim", "mef_ssim_1_scale")


@pytest.fixture
def batch():
    exposures = torch.rand(2, 2, 3, 64, 48, dtype=torch.float64)
    return torch.randn(2, 2, 64, 48, dtype=torch.float64), exposures


def objective(**weights):
    return Objective(TrainConfig(**(dict.fromkeys(TERMS, 0.0) | weights)))


def test_without_terms_it_is_the_structure_loss(batch):
    logits, exposures = batch
    fused = functional.softmax_fuse(logits, exposures)
    expected = WeightedSSIMLoss(scales=(0.4, 0.35, 0.25))(fused, exposures)
    torch.testing.assert_close(objective()(*batch), expected)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_added_with_its_weight(batch, term):
    logits, exposures = batch
    fused = functional.softmax_fuse(logits, exposures)
    value = {
        "brightness": lambda: BrightnessLoss()(fused, exposures),
        "color": lambda: ColorContrastLoss()(fused, exposures),
        "mef_ssim": lambda: 1 - functional.mef_ssim(exposures, fused).mean(),
        "mef_ssim_1_scale": lambda: 1 - functional.mef_ssim(exposures, fused, scales=1).mean(),
    }[term]()
    added = objective(**{term: 0.7})(*batch) - objective()(*batch)
    torch.testing.assert_close(added, 0.7 * value)
    assert float(value) > 1e-5


def test_gradient_reaches_the_logits(batch):
    logits, exposures = batch
    logits.requires_grad_()
    objective(**dict.fromkeys(TERMS, 1.0))(logits, exposures).backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.any()


def test_color_contrast_prefers_the_colorful_fusion():
    colorful = torch.rand(1, 3, 64, 64)
    gray = colorful.mean(1, keepdim=True).expand_as(colorful)
    exposures = torch.stack((colorful, gray), dim=1)
    loss = ColorContrastLoss(level=0)
    assert loss(colorful, exposures) < loss(gray, exposures)


def test_brightness_prefers_the_well_exposed():
    exposures = torch.stack((torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 0.98)), 1)
    loss = BrightnessLoss()
    assert loss(exposures[:, 0], exposures) < 0.1 * loss(exposures[:, 1], exposures)
