"""Guided full-size fusion: its definition, its limits, its errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastmef import functional
from fastmef.errors import InputError
from fastmef.reference import guided as reference


def test_flat_windows_keep_the_logits():
    logits = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    exposures = torch.rand(1, 2, 3, 1, 1, dtype=torch.float64).expand(1, 2, 3, 6, 8)
    fused = reference.guided_upsample_fuse(logits, exposures, radius=0)
    upsampled = F.interpolate(logits, (6, 8), mode="bilinear")
    expected = (upsampled.softmax(1).unsqueeze(2) * exposures).sum(1)
    torch.testing.assert_close(fused, expected)


def test_lines_over_the_guide_are_followed():
    exposures = torch.rand(1, 2, 3, 12, 16, dtype=torch.float64)
    guide = reference.luma_guide(exposures, torch.float64)
    small = F.adaptive_avg_pool2d(guide, (6, 8))
    logits = torch.cat((3 * small - 1, 2 - 5 * small), dim=1)
    fused = reference.guided_upsample_fuse(logits, exposures, eps=1e-12)
    weights = torch.cat((3 * guide - 1, 2 - 5 * guide), dim=1).softmax(1)
    torch.testing.assert_close(fused, (weights.unsqueeze(2) * exposures).sum(1))


def test_windows_end_at_the_border():
    guide = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    logits = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    a, b = reference.guided_coefficients(logits, guide, 100, 0.1)
    g, x = guide.flatten(), logits.flatten()
    slope = ((g * x).mean() - g.mean() * x.mean()) / (g.var(correction=0) + 0.1)
    torch.testing.assert_close(a, slope.expand_as(a))
    torch.testing.assert_close(b, (x.mean() - slope * g.mean()).expand_as(b))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_are_the_same_picture(dtype):
    highest = torch.iinfo(dtype).max
    values = torch.randint(0, highest + 1, (1, 3, 3, 7, 9))
    logits = torch.randn(1, 3, 3, 4)
    fused = functional.guided_upsample_fuse(logits, values.to(dtype))
    exact = reference.guided_upsample_fuse(logits.double(), values.double() / highest)
    assert fused.dtype == dtype
    assert (fused.double() - highest * exact).abs().max() <= 0.5 + 1e-5 * highest


def test_range_and_half_precision():
    exposures = torch.rand(2, 3, 3, 9, 5)
    logits = torch.randn(2, 3, 9, 2)
    fused = functional.guided_upsample_fuse(logits, exposures.bfloat16())
    assert fused.dtype == torch.bfloat16
    fused = functional.guided_upsample_fuse(logits, exposures)
    assert (fused <= exposures.amax(1) + 1e-6).all() and (fused >= exposures.amin(1) - 1e-6).all()


def test_gradcheck():
    logits = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    exposures = torch.rand(1, 2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, y: functional.guided_upsample_fuse(x, y, 1, 0.01), (logits, exposures)
    )


@pytest.mark.parametrize(
    ("logits", "exposures", "options", "message"),
    [
        ((1, 2, 4, 4), (1, 3, 3, 8, 8), {}, r"\(1, 3, 3, 8, 8\) and \(1, 2, 4, 4\)"),
        ((1, 2, 4, 4), (1, 2, 2, 8, 8), {}, r"\(B, K, 3, H, W\)"),
        ((1, 2, 9, 4), (1, 2, 3, 8, 8), {}, r"larger than the exposures \(8, 8\), got \(9, 4\)"),
        ((1, 2, 0, 4), (1, 2, 3, 8, 8), {}, "not empty"),
        ((1, 2, 4, 4), (1, 2, 3, 8, 8), {"radius": -1}, "radius .* got -1"),
        ((1, 2, 4, 4), (1, 2, 3, 8, 8), {"radius": 1.5}, "radius .* got 1.5"),
        ((1, 2, 4, 4), (1, 2, 3, 8, 8), {"eps": 0.0}, "eps .* got 0.0"),
    ],
)
def test_bad_input(logits, exposures, options, message):
    with pytest.raises(InputError, match=message) as caught:
        functional.guided_upsample_fuse(torch.rand(logits), torch.rand(exposures), **options)
    assert "\n" not in str(caught.value)
