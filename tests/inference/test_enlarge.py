"""The enlargement and the convolution after it are one convolution of small features."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastmef.inference.enlarge import enlarging_weight, spread_pixels
from fastmef.nn.blocks import follow


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_equals_both_steps(upsampling):
    torch.manual_seed(0)
    features = torch.rand(1, 5, 6, 7, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(3, 5, 3, 3, dtype=torch.float64)
    expected = F.conv2d(follow(features, upsampling), weight)
    large = spread_pixels(F.conv2d(features, enlarging_weight(weight, upsampling), padding=1))
    assert large.shape == (1, 3, 12, 14)
    # Beyond the border are zeros here, and what is repeated there.
    inner = large[..., 2:-2, 2:-2]
    torch.testing.assert_close(inner, expected[..., 1:-1, 1:-1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_once(dtype):
    torch.manual_seed(0)
    weight = torch.randn(2, 3, 3, 3).to(dtype)
    exact = enlarging_weight(weight.double(), "bilinear")
    rounded = enlarging_weight(weight, "bilinear")
    assert rounded.dtype == dtype
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(rounded.double(), exact, rtol=0.51 * unit, atol=1e-6)
