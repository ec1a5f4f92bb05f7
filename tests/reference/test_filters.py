"""Window means against direct sums, and the any-size rules."""

from __future__ import annotations

import math

import pytest
import torch

from fastmef import reference

SIZES = [(1, 1), (1, 40), (5, 7), (11, 11), (12, 13), (23, 30)]


def direct_mean(image: torch.Tensor, window: int, sigma: float | None) -> torch.Tensor:
    """Filter with a double loop over positions and a dense 2-D window."""
    height, width = image.shape
    wy, wx = (reference.effective_window(window, n) for n in (height, width))

    def profile(taps: int) -> list[float]:
        if sigma is None:
            return [1.0] * taps
        return [math.exp(-((i - taps // 2) ** 2) / (2 * sigma**2)) for i in range(taps)]

    dense = torch.tensor([[a * b for b in profile(wx)] for a in profile(wy)], dtype=image.dtype)
    dense = dense / dense.sum()
    out = image.new_empty(height - wy + 1, width - wx + 1)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = (image[y : y + wy, x : x + wx] * dense).sum()
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [1.5, None])
def test_window_filter_is_the_direct_sum(size, sigma):
    image = torch.rand(*size, dtype=torch.float64)
    torch.testing.assert_close(
        reference.window_filter(image, 11, sigma), direct_mean(image, 11, sigma)
    )


@pytest.mark.parametrize("window", [1, 3, 9, 11])
@pytest.mark.parametrize("sigma", [0.5, 1.5, None])
def test_taps_sum_to_one(window, sigma):
    assert math.isclose(sum(reference.gaussian_taps(window, sigma)), 1, abs_tol=1e-15)


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_borders_keep_the_size_and_the_inside(border):
    image = torch.rand(2, 3, 20, 25, dtype=torch.float64)
    same = reference.window_filter(image, 11, 1.5, border)
    assert same.shape == image.shape
    torch.testing.assert_close(
        same[..., 5:-5, 5:-5], reference.window_filter(image, 11, 1.5, "valid")
    )


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
@pytest.mark.parametrize("sigma", [1.5, None])
def test_first_and_second_derivatives(border, sigma):
    image = torch.rand(2, 6, 9, dtype=torch.float64, requires_grad=True)

    def squares(x):
        return reference.window_filter(x, 5, sigma, border).square()

    assert torch.autograd.gradcheck(squares, image)
    assert torch.autograd.gradgradcheck(squares, image)
    func_grad = torch.func.grad(lambda x: squares(x).sum())(image.detach())
    torch.testing.assert_close(func_grad, torch.autograd.grad(squares(image).sum(), image)[0])


def test_reflect_keeps_a_constant_and_zero_does_not():
    image = torch.full((12, 12), 0.7, dtype=torch.float64)
    torch.testing.assert_close(reference.window_filter(image, 11, 1.5, "reflect"), image)
    assert float(reference.window_filter(image, 11, 1.5, "zero")[0, 0]) < 0.3


def test_halve_repeats_the_odd_edge():
    image = torch.arange(15, dtype=torch.float64).reshape(3, 5)
    expected = torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]], dtype=torch.float64)
    torch.testing.assert_close(reference.halve(image), expected)
    assert reference.halve(torch.ones(1, 1)).shape == (1, 1)


def test_rgb_to_gray_is_matlabs():
    # MATLAB: rgb2gray([1 0 0; 0 1 0; 0 0 1])
    primaries = torch.eye(3, dtype=torch.float64).reshape(3, 3, 1)
    gray = reference.rgb_to_gray(primaries, dim=0).flatten().tolist()
    assert gray == pytest.approx([0.298936021293775, 0.587043074451121, 0.114020904255103])
