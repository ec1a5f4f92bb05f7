"""ssim against the float64 reference: map and mean, gradients w.r.t. both images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from cases import same_bits_in_threads
from torch import Tensor

from fastmef import ops, reference

OPTIONS = {
    "window": 11,
    "sigma": 1.5,
    "k1": 0.01,
    "k2": 0.03,
    "data_range": 1.0,
    "luminance": True,
    "border": "valid",
    "reduction": "none",
}
BORDERS = ["valid", "zero", "reflect"]
SIZES = [(1, 1), (2, 2), (3, 100), (1, 100000), (3000, 1), (10, 10), (11, 11), (12, 37), (129, 270)]
# The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
NOISE = (1e-6, 1e-3)

Scene = Callable[..., Tensor]
Agree = Callable[..., None]

pytestmark = pytest.mark.usefixtures("kernels")


def pair(**changes: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    options = {**OPTIONS, **changes}
    return partial(ops.ssim.ssim, **options), partial(reference.ssim, **options)


@pytest.fixture
def images(scene: Scene) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda *shape: (scene(*shape), scene(*shape, seed=1))


def check(agree: Agree, a: Tensor, b: Tensor, **changes: Any) -> None:
    agree(*pair(**changes), a, b, noise=NOISE)
    windows = reference.ssim(a, b, changes.get("window", 11), reduction="none").numel()
    agree(*pair(**changes, reduction="mean"), a, b, noise=(3e-7, NOISE[1] / windows + 1e-9))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("border", BORDERS)
def test_sizes(
    images: Callable[..., Any], agree: Agree, shape: tuple[int, int], border: str
) -> None:
    check(agree, *images(2, *shape), border=border)


@pytest.mark.parametrize("luminance", [True, False])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("window, sigma", [(1, 1.5), (3, 1.0), (7, None), (11, None), (21, 3.0)])
def test_windows(
    images: Callable[..., Any],
    agree: Agree,
    luminance: bool,
    border: str,
    window: int,
    sigma: float | None,
) -> None:
    a, b = images(1, 50, 300)
    check(agree, a, b, window=window, sigma=sigma, border=border, luminance=luminance)


def test_data_range(images: Callable[..., Any], agree: Agree) -> None:
    a, b = images(1, 40, 50)
    agree(*pair(data_range=255.0, k1=0.02, k2=0.05), 255 * a, 255 * b, noise=NOISE)
    function = pair(data_range=255.0)[0]
    torch.testing.assert_close(function(255 * a, 255 * b), pair()[0](a, b))


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_gradient_wrt_one_image(
    images: Callable[..., Any], reduction: str, wanted: tuple[bool, bool]
) -> None:
    results = []
    for function in pair(reduction=reduction):
        given = [
            x.clone().requires_grad_(need)
            for x, need in zip(images(2, 30, 40), wanted, strict=True)
        ]
        value = function(*given)
        value.backward(torch.linspace(1, 2, value.numel()).double().reshape(value.shape))
        assert [x.grad is not None for x in given] == list(wanted)
        results.append(given[0].grad if wanted[0] else given[1].grad)
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("border", BORDERS)
def test_bright_flat_area_keeps_its_precision(border: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (0.9 + 1e-3 * torch.randn(1, 64, 64, generator=generator) for _ in range(2))
    function, exact = pair(border=border)
    error = (function(a, b) - exact(a.double(), b.double())).abs()
    # Beside the border zeros are part of the window, and rounding is relative to 0.9^2.
    assert error[:, 10:-10, 10:-10].max() < 1e-6
    assert error.max() < (2e-5 if border == "zero" else 1e-6)


def test_strided_inputs(images: Callable[..., Any], agree: Agree) -> None:
    a, b = images(2, 3, 80, 90)
    check(agree, a[..., ::2, 1::3], b[..., 1::2, ::3])
    last = a.contiguous(memory_format=torch.channels_last)
    check(agree, last, b.transpose(-1, -2).contiguous().transpose(-1, -2))
    check(agree, a[:1, :1].expand_as(a), b)
    function = pair()[0]
    part = a[..., ::2, 1::3].float()
    assert torch.equal(function(part, part * 0.5), function(part.contiguous(), part * 0.5))


def test_any_leading_axes(images: Callable[..., Any], agree: Agree) -> None:
    check(agree, *images(15, 14))
    check(agree, *images(2, 1, 3, 15, 14))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(images: Callable[..., Any], dtype: Any) -> None:
    halves = [x.to(dtype) for x in images(2, 30, 300)]
    results = []
    for given in (halves, [x.float() for x in halves]):
        for x in given:
            x.requires_grad_()
        value = pair(reduction="mean")[0](*given)
        assert value.dtype == torch.float32
        values = pair()[0](*given)
        assert values.dtype == given[0].dtype
        gradients = [*torch.autograd.grad(value, given), *torch.autograd.grad(values.sum(), given)]
        results.append([value, *(x.to(dtype) for x in (values, *gradients))])
    for half, single in zip(*results, strict=True):
        assert torch.equal(half, single)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradcheck(images: Callable[..., Any], border: str, reduction: str) -> None:
    a, b = images(1, 13, 14)
    function = pair(border=border, reduction=reduction)[0]
    assert torch.autograd.gradcheck(function, (a.requires_grad_(), b.requires_grad_()), atol=1e-5)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_same_bits_for_any_number_of_threads(images: Callable[..., Any], reduction: str) -> None:
    # Rounding to float32 would hide another order of the sums.
    given = [x.requires_grad_() for x in images(3, 150, 600)]

    def evaluate() -> list[Tensor]:
        value = pair(reduction=reduction)[0](*given)
        return [value, *torch.autograd.grad(value.square().sum(), given)]

    same_bits_in_threads(evaluate)


def test_without_gradient_the_value_is_the_same(images: Callable[..., Any]) -> None:
    a, b = (x.float() for x in images(2, 150, 600))
    function = pair(reduction="mean")[0]
    assert torch.equal(function(a, b), function(a.clone().requires_grad_(), b).detach())
    torch.testing.assert_close(function(a, b), pair()[0](a, b).mean())


def test_equal_images_are_at_the_maximum(images: Callable[..., Any]) -> None:
    a = images(1, 40, 50)[0].requires_grad_()
    value = pair(reduction="mean")[0](a, a.detach())
    (gradient,) = torch.autograd.grad(value, a)
    assert abs(value - 1) < 1e-12 and gradient.abs().max() < 1e-12
