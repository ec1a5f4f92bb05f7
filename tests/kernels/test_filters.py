"""The Triton filters against the float64 reference: values and gradients within an error budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import GAMMAS, arrange
from torch import Tensor

from fastmef import backends, ops, reference
from fastmef.ops.common.operation import OPERATIONS

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
BORDERS = ("valid", "zero", "reflect")
# A smaller window than the default: the interpreter takes its time for every tap.
VARIANCE: dict[str, Any] = {"window": 5, "sigma": 1.5, "floor": 1e-4, "border": "valid"}
GAMMA: dict[str, Any] = {
    "attributes": "variance_gradient",
    "window": 5,
    "sigma": 1.5,
    "floor": 1e-4,
    "eps": 1e-12,
}


def scene(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Noise over a ramp, of a different brightness in each plane."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator)
    ramp = torch.linspace(0, 0.5, shape[-1])
    level = 0.3 * torch.rand(*shape[:-2], 1, 1, generator=generator)
    return (level + ramp + 0.2 * noise).to(dtype)


def upstream_like(values: Tensor) -> Tensor:
    """Between -1 and 1, exact in every dtype."""
    generator = torch.Generator().manual_seed(9)
    return torch.randint(-16, 17, values.shape, generator=generator).double() / 16


def with_gradient(function: Callable[..., Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.detach().requires_grad_()
    values = function(x)
    values.backward(upstream_like(values).to(values))
    assert x.grad is not None and values.dtype == x.grad.dtype == images.dtype
    return values.detach().cpu().double(), x.grad.cpu().double()


def check(
    name: str, images: Tensor, device: torch.device, noise: float = 1e-7, **options: Any
) -> None:
    """No further from float64 than the reference in float32 is, twice over, plus rounding."""
    oracle, ours = getattr(reference, name), getattr(ops.filters, name)
    assert OPERATIONS[name].backend(images.to(device)) == backends.TRITON
    exact = with_gradient(lambda x: oracle(x, **options), images.double())
    single = with_gradient(lambda x: oracle(x, **options), images.float())
    found = with_gradient(lambda x: ours(x, **options), images.to(device))
    # The interpreter cuts bfloat16 off instead of rounding it.
    cut = backends.INTERPRETED and images.dtype == torch.bfloat16
    unit = torch.finfo(images.dtype).eps * (1 if cut else 0.5)
    for e, s, f in zip(exact, single, found, strict=True):
        assert f.shape == e.shape
        budget = 2 * (s - e).abs().max() + (unit + 2.5e-7) * e.abs().max() + noise
        assert (f - e).abs().max() <= budget


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 9), (9, 3), (4, 7)])
def test_variance_sizes(border: str, shape: tuple[int, int], device: torch.device) -> None:
    check("local_variance", scene(1, *shape), device, **{**VARIANCE, "border": border})


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_variance_dtypes(border: str, dtype: torch.dtype, device: torch.device) -> None:
    images = scene(2, 7, 9, dtype=dtype)
    check("local_variance", images, device, **{**VARIANCE, "border": border})


@pytest.mark.parametrize("window, sigma", [(1, 1.5), (3, None), (11, 1.5)])
def test_variance_windows(window: int, sigma: float | None, device: torch.device) -> None:
    for border in ("valid", "zero") if window == 11 else BORDERS:
        options = {"window": window, "sigma": sigma, "floor": 1e-5, "border": border}
        check("local_variance", scene(1, 12, 11), device, **options)


@pytest.mark.parametrize("border", BORDERS)
def test_variance_across_strips(border: str, device: torch.device) -> None:
    check("local_variance", scene(1, 6, 131), device, **{**VARIANCE, "border": border})


def test_variance_of_a_bright_flat_area(device: torch.device) -> None:
    images = 0.9 + 1e-3 * (scene(1, 12, 12) - 0.5)
    for border in BORDERS:
        options = {**VARIANCE, "floor": 1e-12, "border": border}
        exact = reference.local_variance(images.double(), **options)
        ours = ops.filters.local_variance(images.to(device), **options).cpu()
        inner = exact < 1e-5
        assert inner.any()
        assert (ours - exact)[inner].abs().max() <= 1e-11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_bright_flat_area(dtype: torch.dtype, device: torch.device) -> None:
    images = (0.9 + 2e-3 * (scene(1, 3, 6, 7) - 0.5)).to(dtype)
    # Variances here are 1e-7: no absolute noise but half of the smallest number.
    noise = 2.0**-25 if dtype == torch.float16 else 0
    options = {**VARIANCE, "window": 3, "floor": 1e-12}
    check("local_variance", images[0], device, noise, **options)
    check("sobel_gradient", images[0], device, noise)
    options = {**GAMMA, "window": 3, "floor": 1e-12, "attributes": GAMMAS[-1]}
    check("gamma_weights", images, device, **options)


@pytest.mark.parametrize("layout", ["transposed", "strided", "channels_last", "expanded"])
def test_layouts(layout: str, device: torch.device) -> None:
    if layout == "expanded":
        images = scene(1, 4, 5).expand(2, 4, 5)
    else:
        images = arrange(scene(2, 4, 5), layout)
    check("local_variance", images, device, **{**VARIANCE, "window": 3})
    check("sobel_gradient", images, device)
    check("gamma_weights", images[None], device, **{**GAMMA, "window": 3})


@pytest.mark.parametrize("name, options", [("local_variance", VARIANCE), ("sobel_gradient", {})])
def test_expanded_upstream(name: str, options: dict[str, Any], device: torch.device) -> None:
    images = scene(1, 6, 8).to(device)
    x = images.clone().requires_grad_()
    getattr(ops.filters, name)(x, **options).sum().backward()
    y = images.cpu().double().requires_grad_()
    getattr(reference, name)(y, **options).sum().backward()
    assert x.grad is not None and y.grad is not None
    assert (x.grad.cpu() - y.grad).abs().max() <= 4e-6 * y.grad.abs().max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 1), (2, 2), (3, 8), (5, 131)])
def test_sobel_sizes(shape: tuple[int, int], device: torch.device) -> None:
    check("sobel_gradient", scene(2, *shape), device)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_sobel_dtypes(dtype: torch.dtype, device: torch.device) -> None:
    check("sobel_gradient", scene(1, 5, 9, dtype=dtype), device)


def test_sobel_of_a_flat_image_has_no_gradient(device: torch.device) -> None:
    values, gradient = with_gradient(
        ops.filters.sobel_gradient, torch.full((1, 4, 5), 0.3, device=device)
    )
    assert not values.any() and not gradient.any()


@pytest.mark.parametrize("attributes", GAMMAS)
def test_every_gamma(attributes: str, device: torch.device) -> None:
    options = {**GAMMA, "window": 3, "attributes": attributes}
    check("gamma_weights", scene(1, 2, 6, 7), device, **options)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_gamma_of_several_exposures(count: int, dtype: torch.dtype, device: torch.device) -> None:
    options = {**GAMMA, "attributes": GAMMAS[-1], "window": 3}
    check("gamma_weights", scene(1, count, 3, 5, dtype=dtype), device, **options)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 131)])
def test_gamma_sizes(shape: tuple[int, int], device: torch.device) -> None:
    # Where both exposures are nearly flat rounding is amplified: the largest error of one such
    # image varies by three times, with either implementation. Four make it comparable.
    check("gamma_weights", scene(4, 2, *shape), device, **{**GAMMA, "window": 3})


def test_gamma_with_the_default_window(device: torch.device) -> None:
    check("gamma_weights", scene(1, 2, 12, 11), device, **{**GAMMA, "window": 11})


def test_not_a_number_stays(device: torch.device) -> None:
    images = scene(1, 2, 12, 12)
    images[0, 1, 8, 9] = torch.nan
    for name, options in (("local_variance", VARIANCE), ("sobel_gradient", {})):
        ours = getattr(ops.filters, name)(images[0].to(device), **options).cpu()
        seen = getattr(reference, name)(images[0], **options).isnan()
        assert ours.isnan().any() and not ours[0].isnan().any()
        # The reference subtracts the mean of the plane, which is NaN everywhere.
        assert not (ours.isnan() & ~seen).any()
    gamma = ops.filters.gamma_weights(images.to(device), **GAMMA)
    assert gamma.isnan().any()


def test_same_bits_again(device: torch.device) -> None:
    images = scene(1, 2, 4, 6).to(device)
    options = {**GAMMA, "window": 3}
    first, second = (
        with_gradient(lambda x: ops.filters.gamma_weights(x, **options), images) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
