"""The network for any number of exposures without passes between its convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmef import backends
from fastmef.inference import exposure_body
from fastmef.inference.exposure_body import exposure_logits
from fastmef.inference.models import has_bfloat16, ready_model
from fastmef.nn import FusionNet

pytestmark = pytest.mark.skipif(backends.CPU is None, reason="there are no C++ kernels")
BFLOAT16 = pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16"
)


def make_network(**options):
    """Return a folded network in float32 whose logits and scene terms are not near zero."""
    torch.manual_seed(0)
    network = FusionNet("any", width=4, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    nn.init.normal_(network.body.head.weight)
    folded, _ = ready_model(network, "cpu")
    folded.body.float()
    return folded


def bracket(count, height=41, width=54):
    exposures = torch.rand(1, count, 3, height, width)
    shares = torch.linspace(0.5, 1, count)[None]
    return exposures, shares


def check(network, exposures, shares, tolerance):
    assert exposure_body._can_run(network, exposures)
    with torch.no_grad():
        expected = network.logits(exposures, shares)
    found = exposure_logits(network, exposures, shares)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert float(expected.std()) > 0.03
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("skip_connections", [True, False])
def test_float32(count, skip_connections):
    network = make_network(skip_connections=skip_connections, in_features="gray_max")
    check(network, *bracket(count), 1e-5)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 40)])
def test_sizes(size):
    check(make_network(skip_connections=True, upsampling="nearest"), *bracket(2, *size), 1e-5)


def test_without_the_operations_of_onednn(monkeypatch):
    monkeypatch.setattr(exposure_body, "_has_fused_sum", lambda *given: False)
    check(make_network(skip_connections=True), *bracket(3), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=BFLOAT16)])
def test_the_operation_of_onednn_is_used_where_it_exists(dtype):
    pointwise = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if not torch.backends.mkldnn.is_available() or "binary" not in dir(pointwise):
        pytest.skip("this PyTorch has no fused sum")
    assert exposure_body._has_fused_sum(torch.device("cpu"), dtype)


@BFLOAT16
def test_bfloat16():
    network = make_network(skip_connections=True)
    network.body.to(torch.bfloat16)
    check(network, *bracket(3), 0.1)


def test_permuted_frames_permute_the_logits():
    network = make_network(skip_connections=True)
    exposures, shares = bracket(3)
    forward = exposure_logits(network, exposures, shares)
    backward = exposure_logits(network, exposures.flip(1), shares.flip(1))
    torch.testing.assert_close(forward, backward.flip(1), rtol=1e-5, atol=1e-5)


def test_a_network_that_is_not_folded():
    network = FusionNet("any", width=4).eval()
    exposures, shares = bracket(2)
    with torch.no_grad():
        expected = network.logits(exposures, shares)
    assert torch.equal(exposure_logits(network, exposures, shares), expected)
