"""The checked MEF-SSIM: messages, names, cached exposures. Values: tests/reference."""

from __future__ import annotations

import importlib

import pytest
import torch

import fastmef.reference.mef_ssim
from fastmef import functional
from fastmef.errors import InputError
from fastmef.metrics import MEFSSIM, mef_ssim, score_name

VARIANTS = ("ma2015", "mefnet", "mefnet_cs", "color2018")


def images(*shape, dtype=torch.float32):
    values = torch.rand(*shape)
    return (values * 255).to(torch.uint8) if dtype == torch.uint8 else values.to(dtype)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (13, 12), (1, 300), (31, 40)])
def test_any_size(variant, size):
    score = mef_ssim(images(2, 3, *size), images(2, 3, 3, *size), variant)
    assert score.shape == (2,)
    assert torch.isfinite(score).all() and (score <= 1 + 1e-6).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_the_reference_under_every_name(variant):
    x, y = images(2, 2, 3, 20, 18), images(2, 3, 20, 18)
    score = mef_ssim(y, x, variant)
    expected = fastmef.reference.mef_ssim.mef_ssim(y, x, variant)
    torch.testing.assert_close(score, expected, rtol=0, atol=1e-6)
    assert torch.equal(functional.mef_ssim(y, x, variant), score)
    assert torch.equal(MEFSSIM(x, variant).score(y), score)


def test_gradients_reach_the_fused_image():
    x = images(1, 2, 24, 24)
    y = x.mean(dim=1).requires_grad_()
    mef_ssim(y, x).sum().backward()
    assert y.grad is not None and (y.grad != 0).any()


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (torch.uint8, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_dtypes(variant, dtype, result):
    score = mef_ssim(
        images(1, 3, 16, 16, dtype=dtype), images(1, 2, 3, 16, 16, dtype=dtype), variant
    )
    assert score.dtype == result


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_dtype_is_that_of_the_exposures(variant):
    x, y = images(1, 2, 3, 16, 16, dtype=torch.uint8), images(1, 3, 16, 16)
    assert mef_ssim(y, x, variant).dtype == torch.float64
    assert mef_ssim(y.double(), x.float() / 255, variant).dtype == torch.float32


def test_exposures_are_analysed_once(monkeypatch):
    x, y = images(1, 2, 16, 16), images(1, 16, 16)
    metric = MEFSSIM(x)
    module = importlib.import_module("fastmef.metrics.scene")
    monkeypatch.setattr(module, "mef_ssim_sources", None)
    assert metric.score(y).shape == (1,)


def test_names():
    assert score_name() == "MEF-SSIM ma2015, 3 scales"
    assert score_name("ma2015", 1) == "MEF-SSIM ma2015, 1 scale"
    assert score_name("mefnet") == "MEF-SSIM mefnet, l×cs"
    assert score_name("mefnet_cs", 1) == "MEF-SSIM mefnet, cs only"
    assert score_name("color2018") == "MEF-SSIM color2018"
    assert MEFSSIM(images(1, 2, 8, 8), "mefnet").name == score_name("mefnet")


GRAY, COLOR = images(1, 2, 8, 8), images(1, 2, 3, 8, 8)


@pytest.mark.parametrize(
    ("exposures", "fused", "options", "message"),
    [
        (GRAY, images(1, 8, 8), {"variant": "ssim"}, "variant must be one of ma2015, .*'ssim'"),
        (GRAY, images(1, 8, 8), {"scales": 2}, "scales of ma2015 must be 1 or 3, got 2"),
        (GRAY, images(1, 8, 8), {"scales": 3.0}, "scales of ma2015 must be 1 or 3, got 3.0"),
        (
            GRAY,
            images(1, 8, 8),
            {"variant": "mefnet", "scales": 3},
            "scales of mefnet must be 1, got 3",
        ),
        (GRAY, images(1, 8, 8), {"variant": "color2018"}, r"RGB.*got \(1, 2, 8, 8\)"),
        (images(2, 8, 8), images(8, 8), {}, r"\(B, K, 1, H, W\) grey, .*got \(2, 8, 8\)"),
        (
            images(1, 2, 4, 8, 8),
            images(1, 4, 8, 8),
            {},
            r"\(B, K, 3, H, W\) RGB, got \(1, 2, 4, 8, 8\)",
        ),
        (COLOR, images(1, 8, 8), {}, r"fused must be \(1, 3, 8, 8\).*got \(1, 8, 8\)"),
        (COLOR, images(1, 3, 8, 9), {}, r"fused must be \(1, 3, 8, 8\).*got \(1, 3, 8, 9\)"),
        (images(1, 0, 8, 8), images(1, 8, 8), {}, r"exposures must not be empty.*\(1, 0, 8, 8\)"),
        (GRAY, images(1, 8, 8).long(), {}, "fused must be uint8 or floating point.*int64"),
        (GRAY.numpy(), images(1, 8, 8), {}, "exposures must be a torch.Tensor, got ndarray"),
        (GRAY, images(1, 8, 8).to("meta"), {}, "one device, got meta, cpu"),
        (GRAY * 255, images(1, 8, 8), {}, r"exposures.*lie in \[0, 1\], got a maximum of 2"),
        (GRAY, images(1, 8, 8) * 255, {}, r"fused.*lie in \[0, 1\], got a maximum of 2"),
    ],
)
def test_errors(exposures, fused, options, message):
    with pytest.raises(InputError, match=message) as caught:
        mef_ssim(fused, exposures, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        MEFSSIM(exposures, **options).score(fused)
