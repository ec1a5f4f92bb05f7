"""Local variance, Sobel gradient, well-exposedness and γ."""

from __future__ import annotations

import pytest
import torch

from fastmef import functional, reference
from fastmef.errors import InputError

ALL_GAMMA = [
    "variance",
    "gradient",
    "well_exposedness",
    "variance_gradient",
    "variance_well_exposedness",
    "gradient_well_exposedness",
    "variance_gradient_well_exposedness",
]


def test_local_variance_of_a_known_pattern():
    # A checkerboard of ±0.1 around 0.5: with a flat 3x3 window 5 pixels of one kind and 4 of the
    # other, so the variance is 0.01 * (1 - 1/81).
    y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    image = 0.5 + 0.1 * (1 - 2 * ((x + y) % 2)).double()
    variance = functional.local_variance(image, window=3, sigma=None)
    torch.testing.assert_close(variance, torch.full((7, 7), 0.01 * 80 / 81, dtype=torch.float64))


def test_local_variance_of_bright_flat_float32():
    image = 0.9 + 1e-3 * (torch.rand(40, 40, dtype=torch.float64) - 0.5)
    exact = reference.local_variance(image, floor=0)
    error = (reference.local_variance(image.float(), floor=0).double() - exact).abs().max()
    # The textbook form is off by some 1e-7 here, as much as the variance itself.
    assert float(error) < 1e-11
    assert float(exact.mean()) > 5e-8


def test_variance_floor():
    assert float(functional.local_variance(torch.full((12, 12), 0.3)).min()) == pytest.approx(1e-4)


def test_sobel_of_a_ramp():
    ramp = torch.arange(6.0, dtype=torch.float64).expand(5, 6) * 0.1
    inside = functional.sobel_gradient(ramp)[:, 1:-1]
    torch.testing.assert_close(inside, torch.full((5, 4), 0.8, dtype=torch.float64))


def test_sobel_has_no_gradient_in_flat_areas():
    image = torch.full((4, 4), 0.5, requires_grad=True)
    functional.sobel_gradient(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


@pytest.mark.parametrize("gamma", ALL_GAMMA)
def test_gamma_sums_to_one_and_is_the_product(gamma):
    stack = torch.rand(2, 3, 19, 22, dtype=torch.float64)
    weights = functional.gamma_weights(stack, gamma)
    assert weights.shape == (2, 3, 9, 12)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 9, 12, dtype=torch.float64))
    product = torch.ones(2, 3, 9, 12, dtype=torch.float64)
    if "variance" in gamma:
        product = product * functional.local_variance(stack)
    if "gradient" in gamma:
        product = product * functional.sobel_gradient(stack)[..., 5:-5, 5:-5]
    if "well_exposedness" in gamma:
        product = product * functional.well_exposedness(stack)[..., 5:-5, 5:-5]
    torch.testing.assert_close(weights, product / product.sum(1, keepdim=True))


def test_gamma_prefers_the_exposure_with_detail():
    detail = torch.rand(1, 1, 30, 30)
    flat = torch.full((1, 1, 30, 30), 0.99)
    weights = functional.gamma_weights(torch.cat((detail, flat), dim=1))
    assert float(weights[:, 0].min()) > 0.99


@pytest.mark.parametrize("gamma", ALL_GAMMA)
def test_gamma_gradcheck(gamma):
    stack = torch.rand(1, 2, 13, 12, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda s: functional.gamma_weights(s, gamma), stack, fast_mode=True)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 300)])
def test_small_sizes(size):
    weights = functional.gamma_weights(torch.rand(1, 2, *size))
    assert weights.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: functional.gamma_weights(s, "gradient_entropy"), "got 'gradient_entropy'"),
        (lambda s: functional.gamma_weights(s, ""), "join different names of variance, gradient"),
        (lambda s: functional.gamma_weights(s[0]), r"\(2, 16, 16\)"),
        (lambda s: functional.gamma_weights(s.to(torch.uint8)), "torch.uint8"),
        (
            lambda s: functional.local_variance(s, window=10),
            "odd positive integer, got 10",
        ),
        (lambda s: functional.local_variance(s, sigma=-1.0), "-1.0"),
        (lambda s: functional.local_variance(s, border="wrap"), "valid, zero, reflect"),
        (lambda s: functional.local_variance(s, floor=float("nan")), "nan"),
        (lambda s: functional.sobel_gradient(s.numpy()), "ndarray"),
        (lambda s: functional.sobel_gradient(s[..., :0]), "not empty"),
        (lambda s: functional.well_exposedness(s, sigma=0), "positive"),
    ],
)
def test_errors(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.rand(1, 2, 16, 16))
