"""Restoring washed-out colour."""

from __future__ import annotations

import pytest
import torch

from fastmef.metrics import saturation
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.restoration import restore_color


def fused_stack(exposures, weights):
    return (weights.unsqueeze(2) * exposures).sum(dim=1)


@pytest.fixture
def sky():
    """A blue sky: right in the dark exposure, burnt out in the bright one."""
    dark = torch.tensor([0.2, 0.35, 0.55]).reshape(1, 1, 3, 1, 1).expand(1, 1, 3, 4, 4)
    return torch.cat((dark, torch.ones_like(dark)), dim=1)


def test_burnt_out_sky_gets_its_blue_back(sky):
    weights = torch.full((1, 2, 4, 4), 0.5)
    plain = fused_stack(sky, weights)
    restored = restore_color(plain, weights, sky, 1.0)
    assert float(saturation(restored)) > 1.2 * float(saturation(plain))
    blue = restored[0, :, 0, 0]
    assert blue[2] > blue[1] > blue[0]


def test_is_the_stated_formula():
    exposures = torch.tensor([[[0.05, 0.10, 0.22], [0.45, 0.60, 0.97]]], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    luma = torch.tensor([0.298936021293775, 0.587043074451121, 0.114020904255103]).double()
    images = exposures[0]
    fused = (weights[:, None] * images).sum(0)
    gray, fused_gray = images @ luma, fused @ luma
    trust = weights * (1 - images.amax(1) ** 8 + 1e-3)
    relative = (images - gray[:, None]) / (gray[:, None] + 0.02)
    own = (fused_gray + 0.02) * (trust[:, None] * relative).sum(0) / trust.sum()
    color = 0.75 * (fused - fused_gray) + 0.25 * own
    change = fused_gray + 1.25 * color - fused
    limit = torch.where(change > 0, images.amax(0) - fused, fused - images.amin(0)) / change.abs()
    expected = fused + min(1.0, float(limit.min())) * change
    restored = restore_color(
        fused.reshape(1, 3, 1, 1), weights.reshape(1, 2, 1, 1), images.reshape(1, 2, 3, 1, 1), 0.5
    )
    assert float(change.abs().max()) > 0.02
    torch.testing.assert_close(restored.flatten(), expected)


def test_strength_zero_changes_nothing(sky):
    weights = torch.full((1, 2, 4, 4), 0.5)
    plain = fused_stack(sky, weights)
    assert torch.equal(restore_color(plain, weights, sky, 0.0), plain)


def test_stays_inside_the_range_and_keeps_luma():
    exposures = torch.rand(2, 3, 3, 20, 20)
    weights = torch.softmax(torch.randn(2, 3, 20, 20), dim=1)
    plain = fused_stack(exposures, weights)
    restored = restore_color(plain, weights, exposures, 1.0)
    assert (restored <= exposures.amax(1) + 1e-6).all()
    assert (restored >= exposures.amin(1) - 1e-6).all()
    torch.testing.assert_close(rgb_to_gray(restored), rgb_to_gray(plain))
    assert float((restored - plain).abs().max()) > 0.05


def test_gray_stays_gray():
    gray = torch.rand(1, 2, 1, 12, 12).expand(-1, -1, 3, -1, -1)
    weights = torch.softmax(torch.randn(1, 2, 12, 12), dim=1)
    plain = fused_stack(gray, weights)
    torch.testing.assert_close(restore_color(plain, weights, gray, 1.0), plain)


def test_a_blend_outside_the_range_is_not_moved_further():
    exposures = torch.rand(1, 2, 3, 12, 12) * 0.5 + 0.25
    weights = torch.full((1, 2, 12, 12), 0.5)
    outside = exposures.amax(1) + torch.tensor([0.1, 0.0, 0.0]).reshape(1, 3, 1, 1)
    restored = restore_color(outside, weights, exposures, 1.0)
    assert (restored <= outside + 1e-6).all()


def test_alike_exposures_stay():
    image = torch.rand(1, 1, 3, 8, 8)
    exposures = image.expand(-1, 2, -1, -1, -1)
    weights = torch.full((1, 2, 8, 8), 0.5)
    restored = restore_color(image[:, 0], weights, exposures, 1.0)
    torch.testing.assert_close(restored, image[:, 0])


def test_all_clipped_is_finite():
    exposures = torch.ones(1, 2, 3, 4, 4)
    weights = torch.full((1, 2, 4, 4), 0.5)
    assert torch.equal(restore_color(exposures[:, 0], weights, exposures, 1.0), exposures[:, 0])
