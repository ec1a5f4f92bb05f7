"""The torchmetrics wrapper, and its message where torchmetrics is missing."""

from __future__ import annotations

import sys

import pytest
import torch

import fastmef.metrics
from fastmef.errors import InputError, MissingExtraError
from fastmef.metrics import mef_ssim


def test_mean_over_updates():
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    from fastmef.metrics import MEFSSIMMetric

    metric = MEFSSIMMetric("mefnet_cs")
    exposures, fused = torch.rand(3, 2, 3, 16, 16), torch.rand(3, 3, 16, 16)
    metric.update(fused[:1], exposures[:1])
    metric.update(fused[1:], exposures[1:])
    expected = mef_ssim(fused, exposures, "mefnet_cs").mean().item()
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)
    assert metric.name == "MEF-SSIM mefnet, cs only"
    with pytest.raises(InputError, match="variant"):
        MEFSSIMMetric("psnr")


def test_missing_torchmetrics_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "fastmef.metrics.torchmetric", raising=False)
    with pytest.raises(MissingExtraError, match="pip install torchmetrics"):
        _ = fastmef.metrics.MEFSSIMMetric


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'PSNR'"):
        _ = fastmef.metrics.PSNR
