"""The Triton filters against the float64 reference: values and gradients within an error budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import GAMMAS
from torch import Tensor

from fastmef import backends, ops, reference
from fastmef.ops.common.operation import OPERATIONS

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
BORDERS = ("valid", "zero", "reflect")
# A smaller window than the default: the interpreter takes its time for every tap.
VARIANCE: dict[str, Any] = {"window": 5, "sigma": 1.5, "floor": 1e-4, "border": "valid"}
GAMMA: dict[str, Any] = {
    "gamma": "variance_gradient",
    "window": 5,
    "sigma": 1.5,
    "floor": 1e-4,
    "eps": 1e-12,
}


def scene(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Return noise over a ramp, with a different brightness in each plane."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator)
    ramp = torch.linspace(0, 0.5, shape[-1])
    level = 0.3 * torch.rand(*shape[:-2], 1, 1, generator=generator)
    return (level + ramp + 0.2 * noise).to(dtype)


def grad_output_like(values: Tensor) -> Tensor:
    """Return values between -1 and 1 that are exact in every dtype."""
    generator = torch.Generator().manual_seed(9)
    return torch.randint(-16, 17, values.shape, generator=generator).double() / 16


def with_gradient(function: Callable[..., Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    x = images.detach().requires_grad_()
    values = function(x)
    values.backward(grad_output_like(values).to(values))
    assert x.grad is not None and values.dtype == x.grad.dtype == images.dtype
    return values.detach().cpu().double(), x.grad.cpu().double()


def check(
    name: str, images: Tensor, device: torch.device, noise: float = 1e-7, **options: Any
) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding."""
    oracle, ours = getattr(reference, name), getattr(ops.filters, name)
    assert OPERATIONS[name].backend(images.to(device)) == backends.TRITON
    exact = with_gradient(lambda x: oracle(x, **options), images.double())
    single = with_gradient(lambda x: oracle(x, **options), images.float())
    found = with_gradient(lambda x: ours(x, **options), images.to(device))
    # The interpreter truncates to bfloat16 instead of rounding.
    cut = backends.INTERPRETED and images.dtype == torch.bfloat16
    unit = torch.finfo(images.dtype).eps * (1 if cut else 0.5)
    for e, s, f in zip(exact, single, found, strict=True):
        assert f.shape == e.shape
        budget = 2 * (s - e).abs().max() + (unit + 2.5e-7) * e.abs().max() + noise
        assert (f - e).abs().max() <= budget


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
    options = {**GAMMA, "window": 3, "floor": 1e-12, "gamma": GAMMAS[-1]}
    check("gamma_weights", images, device, **options)


@pytest.mark.parametrize("name, options", [("local_variance", VARIANCE), ("sobel_gradient", {})])
def test_expanded_grad_output(name: str, options: dict[str, Any], device: torch.device) -> None:
    images = scene(1, 6, 8).to(device)
    x = images.clone().requires_grad_()
    getattr(ops.filters, name)(x, **options).sum().backward()
    y = images.cpu().double().requires_grad_()
    getattr(reference, name)(y, **options).sum().backward()
    assert x.grad is not None and y.grad is not None
    assert (x.grad.cpu() - y.grad).abs().max() <= 4e-6 * y.grad.abs().max()


def test_sobel_of_a_flat_image_has_no_gradient(device: torch.device) -> None:
    values, gradient = with_gradient(
        ops.filters.sobel_gradient, torch.full((1, 4, 5), 0.3, device=device)
    )
    assert not values.any() and not gradient.any()
