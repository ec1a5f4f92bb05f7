"""γ given by names in any order, or by a function of the caller."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from fastmef import WeightedSSIMLoss, functional, reference
from fastmef.errors import InputError
from fastmef.reference.gamma import ATTRIBUTES

SUBSETS = [names for count in (1, 2, 3) for names in permutations(ATTRIBUTES, count)]
FUSED, EXPOSURES = torch.rand(2, 26, 31).double(), torch.rand(2, 3, 26, 31).double()


def product(exposures):
    """Return V S without the floor of the variance, in plain PyTorch."""
    variance = reference.local_variance(exposures, border="reflect")
    return variance * reference.sobel_gradient(exposures)


@pytest.mark.parametrize("names", SUBSETS, ids="_".join)
def test_names_in_any_order(names):
    ordered = "_".join(name for name in ATTRIBUTES if name in names)
    given = "_".join(names)
    expected = reference.gamma_weights(EXPOSURES, ordered)
    torch.testing.assert_close(functional.gamma_weights(EXPOSURES, given), expected)
    loss, same = (functional.weighted_ssim_loss(FUSED, EXPOSURES, x) for x in (given, ordered))
    assert torch.equal(loss, same)
    assert WeightedSSIMLoss(given).options["gamma"] == ordered


@pytest.mark.parametrize(
    "gamma", ["", "_", "variance_", "variance_variance", "entropy", "well", "Variance", 5, None]
)
def test_unknown_names(gamma):
    for call in (
        lambda: functional.gamma_weights(EXPOSURES, gamma),
        lambda: functional.weighted_ssim_loss(FUSED, EXPOSURES, gamma),
        lambda: WeightedSSIMLoss(gamma),
    ):
        with pytest.raises(InputError, match="gamma must be a function, or join different names"):
            call()


def test_a_function_is_normalised_at_the_centres_of_the_windows():
    weights = functional.gamma_weights(EXPOSURES, product, eps=1e-3)
    attribute = product(EXPOSURES)[..., 5:-5, 5:-5]
    torch.testing.assert_close(weights, attribute / (attribute.sum(1, keepdim=True) + 1e-3))


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.0, 0.5)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_function_that_computes_named_attributes(scales, masked):
    mask = torch.rand_like(FUSED) if masked else None
    options = {"scales": scales, "mask": mask, "window": 3}
    fused = FUSED.clone().requires_grad_()
    loss = functional.weighted_ssim_loss(fused, EXPOSURES, reference.well_exposedness, **options)
    named = functional.weighted_ssim_loss(fused, EXPOSURES, "well_exposedness", **options)
    torch.testing.assert_close(loss, named)
    torch.testing.assert_close(torch.autograd.grad(loss, fused), torch.autograd.grad(named, fused))


def test_map_of_a_function():
    loss_map, named = (
        functional.weighted_ssim_loss(FUSED, EXPOSURES, gamma, reduction="none")
        for gamma in (reference.well_exposedness, "well_exposedness")
    )
    torch.testing.assert_close(loss_map, named)


def test_a_function_for_the_loss_from_logits():
    exposures = torch.rand(2, 3, 3, 26, 31, dtype=torch.float64)
    logits = torch.randn(2, 3, 26, 31, dtype=torch.float64, requires_grad=True)
    loss = WeightedSSIMLoss(product, scales=(0.6, 0.4))
    fused = functional.softmax_fuse(logits, exposures)
    from_logits, from_fused = loss.from_logits(logits, exposures), loss(fused, exposures)
    torch.testing.assert_close(from_logits, from_fused)
    torch.testing.assert_close(
        torch.autograd.grad(from_logits, logits), torch.autograd.grad(from_fused, logits)
    )


def test_gradcheck_through_a_function():
    power = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    fused = torch.rand(1, 9, 8, dtype=torch.float64, requires_grad=True)
    exposures = torch.rand(1, 2, 9, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda f, e, p: functional.weighted_ssim_loss(f, e, lambda x: x**p, window=3),
        (fused, exposures, power),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    fused, exposures = FUSED.to(dtype), EXPOSURES.to(dtype)
    loss = functional.weighted_ssim_loss(fused, exposures, product)
    exact = functional.weighted_ssim_loss(fused.float(), exposures.float(), product)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, exact)
    loss_map = functional.weighted_ssim_loss(fused, exposures, product, reduction="none")
    assert loss_map.dtype == dtype


def test_a_module_is_trained_with_the_loss():
    gamma = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Softplus())
    loss = WeightedSSIMLoss(gamma.double())
    assert set(loss.parameters()) == set(gamma.parameters())
    loss(FUSED, EXPOSURES).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in gamma.parameters())


@pytest.mark.parametrize(
    ("gamma", "got"), [(lambda x: x[..., 1:], r"\(2, 3, 26, 30\)"), (lambda x: 0.5, "0.5")]
)
def test_a_function_that_returns_something_else(gamma, got):
    with pytest.raises(InputError, match=rf"gamma must return a tensor like .* got {got}$"):
        functional.weighted_ssim_loss(FUSED, EXPOSURES, gamma)
