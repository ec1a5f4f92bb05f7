"""Windowed SSIM against a literal loop, its borders, and its precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef import functional, reference
from fastmef.errors import InputError


def literal_ssim(a: np.ndarray, b: np.ndarray, luminance: bool) -> np.ndarray:
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps)
    window /= window.sum()
    c1, c2 = 0.01**2, 0.03**2
    out = np.empty((a.shape[0] - 10, a.shape[1] - 10))
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            value = (2 * cov + c2) / (vp + vq + c2)
            if luminance:
                value *= (2 * mp * mq + c1) / (mp**2 + mq**2 + c1)
            out[y, x] = value
    return out


@pytest.mark.parametrize("luminance", [True, False])
def test_is_the_literal_loop(luminance):
    a, b = torch.rand(2, 17, 20, dtype=torch.float64)
    got = functional.ssim(a, b, luminance=luminance, reduction="none")
    np.testing.assert_allclose(got.numpy(), literal_ssim(a.numpy(), b.numpy(), luminance), 0, 1e-12)


def test_identical_images_score_one():
    image = torch.rand(3, 20, 20, dtype=torch.float64)
    assert float(functional.ssim(image, image)) == pytest.approx(1, abs=1e-12)


def test_bright_flat_float32():
    base = 0.9 + 1e-3 * torch.rand(2, 64, 64, dtype=torch.float64)
    exact = reference.ssim(base[0], base[1], reduction="none")
    error = reference.ssim(base[0].float(), base[1].float(), reduction="none").double() - exact
    # Without subtracting a constant first the error is 4e-4.
    assert float(error.abs().max()) < 2e-6


def test_data_range_scales():
    a, b = torch.rand(2, 20, 20, dtype=torch.float64)
    scaled = functional.ssim(255 * a, 255 * b, data_range=255.0)
    torch.testing.assert_close(scaled, functional.ssim(a, b))


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_border_keeps_size_and_inside(border):
    a, b = torch.rand(2, 1, 24, 21, dtype=torch.float64)
    same = functional.ssim(a, b, border=border, reduction="none")
    assert same.shape == a.shape
    torch.testing.assert_close(same[..., 5:-5, 5:-5], functional.ssim(a, b, reduction="none"))


@pytest.mark.parametrize("border", ["valid", "zero", "reflect"])
def test_gradcheck(border):
    a, b = torch.rand(2, 1, 13, 14, dtype=torch.float64).unbind(0)
    torch.autograd.gradcheck(
        lambda x, y: functional.ssim(x, y, border=border, reduction="none"),
        (a.requires_grad_(), b.requires_grad_()),
        fast_mode=True,
    )


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (torch.rand(15, 16), {}, "same shape"),
        (torch.rand(16, 16).double(), {}, "one dtype"),
        (torch.rand(16, 16), {"reduction": "sum"}, "mean, none"),
        (torch.rand(16, 16), {"data_range": 0.0}, "data_range"),
        (torch.rand(16, 16), {"k1": -1.0}, "k1"),
    ],
)
def test_errors(other, options, message):
    with pytest.raises(InputError, match=message):
        functional.ssim(torch.rand(16, 16), other, **options)
