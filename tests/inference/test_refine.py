"""Descent on the loss of the photographs themselves."""

from __future__ import annotations

import math

import pytest
import torch

from fastmef import backends, functional
from fastmef.inference import refine
from fastmef.inference.refine import BaseLoss, LossGradient
from fastmef.ops.descent import descent_step
from fastmef.ops.mef_ssim import MEF_SSIM
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.descent import Adam, DescentState, _sum_of_parts


@pytest.fixture
def bracket():
    radiance = torch.rand(1, 1, 3, 60, 70) * 2
    gains = torch.tensor([0.3, 1.0]).reshape(1, 2, 1, 1, 1)
    return (radiance * gains).clamp(0, 1)


def refine_logits(logits, exposures, steps):
    shares = exposures.new_ones(exposures.shape[:2])
    return refine.refine_logits(logits, exposures, shares, steps)


def loss(logits, exposures):
    shares = exposures.new_ones(exposures.shape[:2])
    gray = rgb_to_gray(exposures)
    bounds = refine.brightness_bounds(torch.zeros_like(gray), gray, shares)
    return float(BaseLoss(gray, bounds).value(refine.fused_luma(logits, gray)))


def test_lowers_the_loss(bracket):
    logits = torch.zeros(1, 2, 60, 70)
    losses = [loss(refine_logits(logits, bracket, steps), bracket) for steps in (0, 4, 12)]
    assert losses[0] > losses[1] > losses[2]


def test_zero_steps_and_the_input_stay(bracket):
    logits = torch.randn(1, 2, 60, 70)
    before = logits.clone()
    assert torch.equal(refine_logits(logits, bracket, 0), before)
    refine_logits(logits, bracket, 2)
    assert torch.equal(logits, before)


def test_flat_areas_become_well_exposed():
    """Flat exposures differ in brightness only."""
    exposures = torch.full((1, 2, 3, 40, 40), 0.4)
    exposures[:, 1] = 0.8
    weights = refine_logits(torch.zeros(1, 2, 40, 40), exposures, 8).softmax(dim=1)
    assert (weights[:, 0] > 0.51).all()


def test_the_picture_does_not_become_dark():
    """The luminance term favours the frame of 0.35, nearest to the middle; the mean is 0.78."""
    exposures = torch.full((1, 3, 3, 40, 40), 1.0)
    exposures[:, 0], exposures[:, 1] = 0.35, 0.99
    gray, shares = rgb_to_gray(exposures), torch.ones(1, 3)
    for logit, least in ((0.0, 0.955 * 0.78), (3.0, 0.95 * (0.5 + 0.78) / 2)):
        logits = torch.zeros(1, 3, 40, 40)
        logits[:, 0] = logit
        lowest, highest = refine.brightness_bounds(logits, gray, shares)
        assert lowest == pytest.approx(least, abs=1e-2) and highest >= lowest
        fused = functional.softmax_fuse(refine_logits(logits, exposures, 60), exposures)
        assert fused.mean() > 0.97 * lowest


def test_the_picture_does_not_become_bright():
    """The luminance term favours the frame of 0.6; the network's fusion has 0.1."""
    exposures = torch.full((1, 2, 3, 40, 40), 0.05)
    exposures[:, 1] = 0.6
    logits = torch.zeros(1, 2, 40, 40)
    logits[:, 0] = 2.3
    shares = torch.tensor([[1.0, 0.0]])
    fused = functional.softmax_fuse(refine.refine_logits(logits, exposures, shares, 60), exposures)
    before = functional.softmax_fuse(logits, exposures).mean()
    assert fused.mean() < max(1.08 * before, 0.95 * (0.5 + 0.05) / 2) * 1.03


@pytest.mark.parametrize("noise", [0, 1e-6])
def test_noise_is_not_stretched_to_a_full_step(noise):
    """Exposures that differ by rounding only keep equal weights."""
    exposures = torch.rand(1, 1, 3, 40, 40).mul(0.8).add(0.1).expand(1, 2, 3, 40, 40)
    exposures = exposures + noise * torch.randn(1, 2, 3, 40, 40)
    assert refine_logits(torch.zeros(1, 2, 40, 40), exposures, 8).abs().mean() < 1e-4


@pytest.mark.parametrize("bounds", [(0.1, 0.9), (0.7, 0.9), (0.1, 0.2)])
def test_gradient(bracket, bounds):
    gray = rgb_to_gray(bracket)
    loss = BaseLoss(gray, tuple(torch.tensor(bound) for bound in bounds))
    logits = torch.randn(1, 2, 60, 70, requires_grad=True)
    fused = refine.fused_luma(logits, gray)
    (expected,) = torch.autograd.grad(loss.value(fused), logits)
    state = DescentState(logits.detach().clone(), *torch.zeros(2, 1, 2, 60, 70), fused.detach())
    parts, constant = LossGradient(loss, state.luma)()
    assert (constant != 0) == (bounds != (0.1, 0.9))
    descent_step(state, gray, parts, constant, Adam(momentum=0, decay=0.5, rate=1, epsilon=1))
    torch.testing.assert_close(state.mean, expected, rtol=1e-3, atol=1e-8)


def test_gradient_without_kernels(bracket, monkeypatch):
    """It is that of the kernels."""
    gray = rgb_to_gray(bracket)
    loss = BaseLoss(gray, (torch.tensor(0.7), torch.tensor(0.9)))
    luma = refine.fused_luma(torch.randn(1, 2, 60, 70), gray)
    whole = []
    for backend in (MEF_SSIM.backend(luma), backends.REFERENCE):
        monkeypatch.setattr(MEF_SSIM, "backend", lambda *_, backend=backend: backend)
        parts, constant = LossGradient(loss, luma)()
        whole.append(_sum_of_parts(parts, luma) + constant)
    torch.testing.assert_close(*whole, rtol=1e-3, atol=1e-7)


def test_the_coarse_descent_changes_large_areas(bracket):
    """Its change of the logits is smooth, and zero for exposures without a share of the fusion."""
    logits = torch.zeros(1, 2, 60, 70)
    logits[:, 1, :30] = -math.inf
    bounds = torch.tensor(0.1), torch.tensor(0.9)
    change = refine._coarse_change(logits, rgb_to_gray(bracket), bounds, 10)
    assert change.shape == logits.shape and change.abs().max() > 0.1
    assert change.diff(dim=-1).abs().max() < 0.3 * (change.amax() - change.amin())
    refined = refine_logits(logits, bracket, 3)
    assert (refined[:, 1, :30] == -math.inf).all() and not refined.isnan().any()


def test_deterministic(bracket):
    logits = torch.zeros(1, 2, 60, 70)
    assert torch.equal(refine_logits(logits, bracket, 5), refine_logits(logits, bracket, 5))


@pytest.mark.parametrize("size", [(1, 1), (3, 20)])
def test_tiny(size):
    refined = refine_logits(torch.zeros(1, 3, *size), torch.rand(1, 3, 3, *size), 3)
    assert refined.isfinite().all()
