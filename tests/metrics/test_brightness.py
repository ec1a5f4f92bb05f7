"""Mean luma, and the shares of nearly white and nearly black pixels."""

from __future__ import annotations

import pytest
import torch

from fastmef.errors import InputError
from fastmef.metrics import brightness, near_black, near_white

MEASURES = [brightness, near_white, near_black]


def gray(*levels: int) -> torch.Tensor:
    """One row of grey pixels, uint8."""
    return torch.tensor(levels, dtype=torch.uint8).expand(3, 1, -1)


def test_brightness_is_the_mean_luma():
    images = torch.randint(0, 256, (2, 4, 3, 5, 6), dtype=torch.uint8)
    red, green, blue = images.double().unbind(-3)
    expected = (0.298936 * red + 0.587043 * green + 0.114021 * blue).mean(dim=(-2, -1))
    assert torch.allclose(brightness(images), expected, atol=1e-3)


def test_each_level_is_counted_on_its_side():
    row = gray(0, 5, 6, 249, 250, 255, 255, 128)
    assert brightness(row).item() == pytest.approx(row[0].double().mean().item(), abs=1e-9)
    assert near_white(row).item() == pytest.approx(100 * 3 / 8)
    assert near_black(row).item() == pytest.approx(100 * 2 / 8)


def test_a_pixel_counts_by_its_luma():
    yellow = torch.tensor([255, 255, 200], dtype=torch.uint8).reshape(3, 1, 1)
    blue = torch.tensor([0, 0, 40], dtype=torch.uint8).reshape(3, 1, 1)
    assert near_white(yellow).item() == 0  # two white channels, luma 248.7
    assert near_black(blue).item() == 100  # luma 4.6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floating_point_equals_8_bit(dtype):
    images = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    images[:, :8, :8], images[:, -8:, -8:] = 250, 5
    floating = images.to(dtype) / 255
    for measure in MEASURES:
        assert measure(floating).dtype == dtype
        assert measure(images).dtype == torch.float64
        assert measure(floating).item() == pytest.approx(measure(images).item(), rel=1e-5)
        assert measure(images).item() > 1


def test_half_precision_is_summed_in_float32():
    images = torch.full((3, 300, 300), 0.5, dtype=torch.float16)
    assert brightness(images).dtype == torch.float32
    assert brightness(images).item() == pytest.approx(127.5, rel=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(4, 8, 8), r"\(\.\.\., 3, H, W\).*got \(4, 8, 8\)"),
        (torch.rand(3, 0, 8), r"not empty, got \(3, 0, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "uint8 or floating point, got torch.int32"),
        ([1, 2], "torch.Tensor, got list"),
    ],
)
def test_errors(measure, images, message):
    with pytest.raises(InputError, match=message):
        measure(images)
