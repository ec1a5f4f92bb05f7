"""Mean HSV saturation."""

from __future__ import annotations

import colorsys

import pytest
import torch

from fastmef.errors import InputError
from fastmef.metrics import saturation


def test_equals_colorsys():
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    images[0, :, 0, 0] = 0
    expected = [
        sum(colorsys.rgb_to_hsv(*pixel)[1] for pixel in image.flatten(1).T.tolist()) / 20
        for image in images
    ]
    assert saturation(images).tolist() == pytest.approx(expected, abs=1e-12)


def test_8_bit_and_leading_axes():
    images = torch.zeros(2, 1, 3, 2, 2, dtype=torch.uint8)
    images[0, :, 0] = 200
    images[1] = 90
    assert saturation(images).tolist() == [[1.0], [0.0]]


def test_gradients_stay_finite_on_black_and_gray():
    images = torch.zeros(3, 2, 2)
    images[:, 0] = 0.5
    images.requires_grad_()
    saturation(images).backward()
    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(4, 8, 8), r"\(\.\.\., 3, H, W\).*got \(4, 8, 8\)"),
        (torch.rand(3, 0, 8), r"not empty, got \(3, 0, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "uint8 or floating point, got torch.int32"),
        ([1, 2], "torch.Tensor, got list"),
    ],
)
def test_errors(images, message):
    with pytest.raises(InputError, match=message):
        saturation(images)
