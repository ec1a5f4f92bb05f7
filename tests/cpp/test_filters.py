"""local_variance, sobel_gradient and gamma_weights against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from cases import GAMMAS, same_bits_in_threads
from torch import Tensor

from fastmef import ops, reference

SIZES = [(1, 1), (2, 2), (3, 100), (1, 100000), (3000, 1), (10, 10), (11, 11), (12, 37), (129, 270)]
BORDERS = ["valid", "zero", "reflect"]

Scene = Callable[..., Tensor]
Agree = Callable[..., None]

pytestmark = pytest.mark.usefixtures("kernels")


def variance(**changes: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    options = {"window": 11, "sigma": 1.5, "floor": 1e-4, "border": "valid", **changes}
    return partial(ops.filters.local_variance, **options), partial(
        reference.local_variance, **options
    )


def gamma(**changes: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    options = {"gamma": "variance_gradient", "window": 11, "sigma": 1.5, "floor": 1e-4}
    options = {**options, "eps": 1e-12, **changes}
    return partial(ops.filters.gamma_weights, **options), partial(
        reference.gamma_weights, **options
    )


SOBEL = ops.filters.sobel_gradient, reference.sobel_gradient
EVERY = {
    "local_variance": variance(border="reflect"),
    "sobel_gradient": SOBEL,
    "gamma_weights": gamma(gamma="variance_gradient_well_exposedness"),
}


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("border", BORDERS)
def test_variance_sizes(scene: Scene, agree: Agree, shape: tuple[int, int], border: str) -> None:
    agree(*variance(border=border), scene(2, *shape))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("window, sigma", [(1, 1.5), (3, 1.0), (7, None), (11, None), (21, 3.0)])
def test_variance_windows(
    scene: Scene, agree: Agree, border: str, window: int, sigma: float | None
) -> None:
    images = scene(1, 50, 300)
    agree(*variance(border=border, window=window, sigma=sigma, floor=0.0), images)
    agree(*variance(border=border, window=window, sigma=sigma), images)


def test_variance_at_the_floor_still_has_its_gradient() -> None:
    images = torch.zeros(1, 20, 20, requires_grad=True)
    grad_output = torch.ones(1, 10, 10)
    impulse = torch.zeros(1, 20, 20)
    impulse[0, 10, 10] = 1.0
    for function in variance(floor=0.0):
        # The variance is 0 = the floor; its gradient vanishes as well, but not where x differs.
        (gradient,) = torch.autograd.grad(function(images), images, grad_output)
        assert not gradient.any()
    for floor, has_gradient in ((0.0, True), (1.0, False)):
        for function in variance(floor=floor):
            x = impulse.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(function(x), x, grad_output)
            assert bool(gradient.any()) == has_gradient


@pytest.mark.parametrize("shape", SIZES)
def test_sobel_sizes(scene: Scene, agree: Agree, shape: tuple[int, int]) -> None:
    agree(*SOBEL, scene(2, *shape))


def test_sobel_of_flat_areas_has_no_gradient() -> None:
    images = torch.full((1, 20, 20), 0.3)
    images[..., 10:] = 0.6
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(ops.filters.sobel_gradient(images).sum(), images)
    assert torch.equal(gradient.abs().sum((0, 1)).nonzero().flatten(), torch.tensor([8, 9, 10, 11]))


@pytest.mark.parametrize("attributes", GAMMAS)
@pytest.mark.parametrize("exposures", [1, 2, 3, 5])
def test_every_gamma(scene: Scene, agree: Agree, attributes: str, exposures: int) -> None:
    # Nearly all of the gradient of a single exposure's share cancels: 1 - A / (A + eps).
    noise = (1e-7, 1e-6) if exposures == 1 else (1e-8, 5e-8)
    agree(*gamma(gamma=attributes), scene(2, exposures, 34, 41), noise=noise)
    agree(*gamma(gamma=attributes, eps=0.1), scene(1, exposures, 20, 300), noise=noise)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("attributes", ["variance_gradient", "gradient_well_exposedness"])
def test_gamma_sizes(scene: Scene, agree: Agree, shape: tuple[int, int], attributes: str) -> None:
    agree(*gamma(gamma=attributes), scene(1, 2, *shape))


@pytest.mark.parametrize("window, sigma", [(1, 1.5), (3, 1.0), (7, None), (21, 3.0)])
def test_gamma_windows(scene: Scene, agree: Agree, window: int, sigma: float | None) -> None:
    attributes = "variance_gradient_well_exposedness"
    agree(*gamma(gamma=attributes, window=window, sigma=sigma), scene(1, 3, 50, 60))
    agree(*gamma(gamma=attributes, window=window, sigma=sigma), scene(1, 2, 300, 20))


def test_bright_flat_area_keeps_its_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.9 + 1e-3 * torch.randn(1, 2, 64, 64, generator=generator, dtype=torch.float64)
    images = images.float().double()
    for border in BORDERS:
        ours, theirs = variance(floor=0.0, border=border)
        error = (ours(images.float()) - theirs(images)).abs()
        # Beside the border zeros are part of the window, and rounding is relative to 0.9^2.
        inner = error[..., 10:-10, 10:-10] if border == "zero" else error
        assert inner.max() < 1e-11
        assert error.max() < 1e-6
    ours, theirs = gamma(floor=0.0)
    assert (ours(images.float()) - theirs(images)).abs().max() < 5e-6


@pytest.mark.parametrize("name", EVERY)
def test_strided_inputs(scene: Scene, agree: Agree, name: str) -> None:
    images = scene(2, 3, 80, 90)
    part = images[..., ::2, 1::3]
    assert not part.is_contiguous()
    agree(*EVERY[name], part)
    last = images[..., :40, :50].contiguous(memory_format=torch.channels_last)
    agree(*EVERY[name], last)
    agree(*EVERY[name], last.transpose(-1, -2))
    agree(*EVERY[name], images[:1, :1].expand_as(images))
    function, exact = EVERY[name]
    assert torch.equal(function(part.float()), function(part.float().contiguous()))


@pytest.mark.parametrize("name", ["local_variance", "sobel_gradient"])
def test_any_leading_axes(scene: Scene, agree: Agree, name: str) -> None:
    agree(*EVERY[name], scene(15, 14))
    agree(*EVERY[name], scene(2, 1, 3, 15, 14))


@pytest.mark.parametrize("name", EVERY)
def test_expanded_grad_output(scene: Scene, name: str) -> None:
    images = scene(1, 2, 20, 21).requires_grad_()
    results = []
    for function in EVERY[name]:
        value = function(images)
        grad_output = (
            torch.tensor([0.5, 1.5], dtype=value.dtype).reshape(1, 2, 1, 1).expand_as(value)
        )
        results.append(torch.autograd.grad(value, images, grad_output)[0])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12 * float(results[1].abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_computed_in_float32(scene: Scene, name: str, dtype: torch.dtype) -> None:
    images = scene(2, 2, 30, 300).to(dtype)
    results = []
    for given in (images, images.float()):
        given.requires_grad_()
        value = EVERY[name][0](given)
        grad_output = torch.linspace(0, 1, value.numel(), dtype=torch.float64).to(dtype)
        (gradient,) = torch.autograd.grad(
            value, given, grad_output.reshape(value.shape).to(value.dtype)
        )
        assert value.dtype == gradient.dtype == given.dtype
        results.append((value.detach().to(dtype), gradient.to(dtype)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", EVERY)
def test_gradcheck(scene: Scene, name: str) -> None:
    images = scene(1, 2, 13, 14).requires_grad_()
    assert torch.autograd.gradcheck(EVERY[name][0], images, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_same_bits_for_any_number_of_threads(scene: Scene, name: str) -> None:
    images = scene(2, 2, 150, 600).float().requires_grad_()

    def evaluate() -> list[Tensor]:
        value = EVERY[name][0](images)
        return [value, *torch.autograd.grad(value.square().sum(), images)]

    same_bits_in_threads(evaluate)
