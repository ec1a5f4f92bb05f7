"""FusionNet of grey exposures, with and without a channel axis."""

from __future__ import annotations

import pytest
import torch

from fastmef import FusionNet
from fastmef.errors import InputError

PLANES = torch.rand(2, 3, 45, 52, dtype=torch.float64)


def network(exposures, features):
    torch.manual_seed(0)
    net = FusionNet(exposures, 4, features, skip_connections=True).double().eval()
    torch.nn.init.normal_(net.body.head.weight)
    return net


@torch.no_grad()
@pytest.mark.parametrize("exposures", [3, "any"])
@pytest.mark.parametrize("features", ["gray", "rgb"])
@pytest.mark.parametrize("size", [(45, 52), (360, 400)])
def test_gray_is_fused_like_equal_channels(exposures, features, size):
    net = network(exposures, features)
    planes = torch.rand(1, 3, *size, dtype=torch.float64)
    expected = net(planes.unsqueeze(2).expand(-1, -1, 3, -1, -1))
    fused, weights = net(planes.unsqueeze(2))
    assert fused.shape == (1, 1, *size)
    torch.testing.assert_close(fused, expected.fused[:, :1], rtol=0, atol=1e-9)
    torch.testing.assert_close(weights, expected.weights, rtol=0, atol=1e-9)
    assert weights.std() > 1e-3
    without = net(planes)
    assert without.fused.shape == (1, *size)
    assert torch.equal(without.fused, fused[:, 0]) and torch.equal(without.weights, weights)


@torch.no_grad()
@pytest.mark.parametrize("exposures", [3, "any"])
def test_logits_of_gray(exposures):
    net = network(exposures, "gray")
    expected = net.logits(PLANES)
    assert torch.equal(net.logits(PLANES.unsqueeze(2)), expected)
    torch.testing.assert_close(net.logits(PLANES.unsqueeze(2).expand(-1, -1, 3, -1, -1)), expected)


@torch.no_grad()
def test_forward_without_fusing_returns_the_logits():
    net, shares = network("any", "rgb"), torch.tensor([[1.0, 0.5, 0.5]]).expand(2, -1).double()
    exposures = torch.rand(2, 3, 3, 24, 16, dtype=torch.float64)
    assert torch.equal(net(exposures, fuse=False), net.logits(exposures))
    assert torch.equal(net(exposures, shares, fuse=False), net.logits(exposures, shares))
    fixed = network(3, "rgb")
    assert torch.equal(fixed(exposures, fuse=False), fixed.logits(exposures))


@torch.no_grad()
def test_given_shares_are_used():
    net = network("any", "rgb")
    exposures = torch.rand(1, 3, 3, 24, 16, dtype=torch.float64)
    without_first = net(exposures, torch.tensor([[0.0, 1.0, 1.0]]).double())
    assert not without_first.weights[:, 0].any()
    assert net(exposures).weights[:, 0].any()


@pytest.mark.parametrize("shares", [None, torch.ones(1, 2)])
def test_forward_checks_its_options(shares):
    with pytest.raises(InputError, match="fuse must be True or False, got 1"):
        FusionNet("any", width=2)(torch.rand(1, 2, 3, 8, 8), shares, fuse=1)
    if shares is not None:
        for fuse in (True, False):
            with pytest.raises(InputError, match="shares are for networks"):
                FusionNet(2, width=2)(torch.rand(1, 2, 3, 8, 8), shares, fuse=fuse)
