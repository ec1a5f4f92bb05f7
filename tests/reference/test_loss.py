"""weighted_ssim_loss and fusion_loss."""

from __future__ import annotations

import pytest
import torch

from fastmef import WeightedSSIMLoss, functional, reference
from fastmef.errors import InputError

GAMMAS = ["variance", "variance_gradient", "variance_gradient_well_exposedness"]


def data(count=2, size=(26, 31), dtype=torch.float64):
    return torch.rand(2, *size, dtype=dtype), torch.rand(2, count, *size, dtype=dtype)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("luminance", [False, True])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_is_one_minus_the_weighted_mean(count, luminance, gamma):
    fused, exposures = data(count)
    weights = functional.gamma_weights(exposures, gamma)
    expected = 0.0
    for k in range(count):
        similarity = functional.ssim(fused, exposures[:, k], luminance=luminance, reduction="none")
        expected = expected + (weights[:, k] * similarity).mean()
    got = functional.weighted_ssim_loss(fused, exposures, gamma, luminance)
    torch.testing.assert_close(got, 1 - expected)


def test_scales_are_a_weighted_mean_of_levels():
    fused, exposures = data(size=(50, 47))
    levels, f, e = [], fused, exposures
    for _ in range(3):
        levels.append(functional.weighted_ssim_loss(f, e))
        f, e = reference.halve(f), reference.halve(e)
    got = functional.weighted_ssim_loss(fused, exposures, scales=(2.0, 0.0, 6.0))
    torch.testing.assert_close(got, 0.25 * levels[0] + 0.75 * levels[2])


def test_map_and_mask():
    fused, exposures = data()
    quality = functional.weighted_ssim_loss(fused, exposures, reduction="none")
    torch.testing.assert_close(quality.mean(), functional.weighted_ssim_loss(fused, exposures))
    mask = torch.rand_like(fused)
    centers = reference.crop_to_centers(mask, 11)
    expected = (centers * quality).sum() / centers.sum()
    got = functional.weighted_ssim_loss(fused, exposures, mask=mask)
    torch.testing.assert_close(got, expected)


def test_gradient_from_forward_is_scaled_by_grad_output():
    fused, exposures = data()
    fused.requires_grad_(), exposures.requires_grad_()
    plain = reference.weighted_ssim_loss(fused, exposures)
    expected = torch.autograd.grad(3 * plain, (fused, exposures))
    got = torch.autograd.grad(
        3 * functional.weighted_ssim_loss(fused, exposures), (fused, exposures)
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck(gamma, reduction):
    fused, exposures = data(size=(13, 14))
    torch.autograd.gradcheck(
        lambda f, e: functional.weighted_ssim_loss(f, e, gamma, reduction=reduction),
        (fused.requires_grad_(), exposures.requires_grad_()),
        fast_mode=True,
    )


def test_fusion_loss_is_the_loss_of_the_fusion():
    _, exposures = data(3)
    logits = torch.randn_like(exposures).requires_grad_()
    fused = (torch.softmax(logits, 1) * exposures).sum(1)
    expected = functional.weighted_ssim_loss(fused, exposures, scales=(0.5, 0.5))
    got = functional.fusion_loss(logits, exposures, scales=(0.5, 0.5))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    )


def test_module_reads_luma_and_matches_from_logits():
    exposures = torch.rand(2, 2, 3, 24, 24, dtype=torch.float64)
    logits = torch.randn(2, 2, 24, 24, dtype=torch.float64)
    module = WeightedSSIMLoss(scales=(0.6, 0.4))
    fused = functional.softmax_fuse(logits, exposures)
    torch.testing.assert_close(module(fused, exposures), module.from_logits(logits, exposures))


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (1, 200), (11, 11)])
def test_any_size(size):
    fused, exposures = data(size=size)
    loss = functional.weighted_ssim_loss(fused.requires_grad_(), exposures, scales=(1, 1, 1))
    loss.backward()
    assert loss.isfinite()
    assert fused.grad is not None and fused.grad.isfinite().all()


def test_constant_stack_has_a_finite_gradient():
    fused = torch.full((1, 20, 20), 0.4, requires_grad=True)
    functional.weighted_ssim_loss(fused, torch.full((1, 2, 20, 20), 0.9)).backward()
    assert fused.grad is not None and fused.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "positive sum"),
        ({"scales": (1.0, -1.0)}, "non-negative"),
        ({"reduction": "none", "scales": (1.0, 1.0)}, "one scale, got 2"),
        ({"mask": torch.ones(2, 5, 5, dtype=torch.float64)}, r"\(2, 5, 5\)"),
        ({"gamma": "entropy"}, "entropy"),
        ({"window": 4}, "odd"),
        ({"eps": -1.0}, "eps"),
    ],
)
def test_errors(options, message):
    fused, exposures = data()
    with pytest.raises(InputError, match=message):
        functional.weighted_ssim_loss(fused, exposures, **options)


def test_shape_errors():
    fused, exposures = data()
    with pytest.raises(InputError, match=r"fused must be \(2, 26, 31\) or .*got \(1, 26, 31\)"):
        functional.weighted_ssim_loss(fused[:1], exposures)
    with pytest.raises(InputError, match=r"got \(2, 1, 26, 31\) for \(2, 2, 26, 31\)"):
        functional.fusion_loss(exposures[:, :1], exposures)
