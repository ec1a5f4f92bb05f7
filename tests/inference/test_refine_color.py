"""Descent on the colour of a fused base."""

from __future__ import annotations

import pytest
import torch

from fastmef.inference import refine_color
from fastmef.ops.mef_ssim import STEPS
from fastmef.ops.multiscale import reduce_level
from fastmef.reference.color import rgb_to_gray


@pytest.fixture
def bracket():
    torch.manual_seed(0)
    radiance = torch.rand(1, 1, 3, 60, 70) * 2
    return (radiance * torch.tensor([0.3, 1.0]).reshape(1, 2, 1, 1, 1)).clamp(0, 1)


def _half(images):
    return reduce_level(images.unsqueeze(1), True, None)[0].squeeze(1)


def test_lowers_the_loss_within_the_range(bracket):
    fused = bracket.mean(dim=1)
    refined = refine_color.refine_color(fused, bracket)
    sources = STEPS.color2018_sources(reduce_level(bracket, True, None)[0])
    before, after = (refine_color.color_loss(sources, _half(x)) for x in (fused, refined))
    assert after < before - 1e-3
    torch.testing.assert_close(rgb_to_gray(refined), rgb_to_gray(fused))
    assert (refined <= bracket.amax(dim=1) + 1e-6).all()
    assert (refined >= bracket.amin(dim=1) - 1e-6).all()


def test_the_picture_does_not_become_paler(bracket, monkeypatch):
    """The weight of saturation matters: here, a grey exposure has the most contrast."""
    gray = rgb_to_gray(bracket[:, 1]).unsqueeze(1).expand(-1, 3, -1, -1)
    exposures = torch.stack((bracket[:, 0], gray), dim=1)
    fused = exposures.mean(dim=1)

    def saturation():
        refined = _half(refine_color.refine_color(fused, exposures))
        return float((1 - refined.amin(dim=1) / refined.amax(dim=1)).mean())

    saturations = [saturation()]
    for weight in (0.0, 1.0):
        monkeypatch.setattr(refine_color, "SATURATION", weight)
        saturations.append(saturation())
    kept, without, strong = saturations
    assert without < kept < strong


def test_saturation_at_the_border_counts_less(bracket, monkeypatch):
    """As in the score: there, colour would be amplified most, because nothing opposes it."""
    sources = STEPS.color2018_sources(bracket)
    fused = bracket.mean(dim=1).requires_grad_()
    gradients = []
    for weight in (1.0, 0.0):
        monkeypatch.setattr(refine_color, "SATURATION", weight)
        loss = refine_color.color_loss(sources, fused)
        gradients.append(torch.autograd.grad(loss, fused)[0])
    size = (gradients[0] - gradients[1]).abs().sum(dim=1)[0]
    assert size[0].mean() < 0.3 * size[20:40].mean()


def test_grey_stays_grey():
    exposures = torch.rand(1, 3, 1, 40, 50).expand(-1, -1, 3, -1, -1)
    fused = exposures.mean(dim=1)
    assert (refine_color.refine_color(fused, exposures) - fused).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 20)])
def test_tiny(size):
    exposures = torch.rand(1, 3, 3, *size)
    assert refine_color.refine_color(exposures.mean(dim=1), exposures).isfinite().all()
