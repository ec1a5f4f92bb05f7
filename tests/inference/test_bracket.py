"""Any number of exposures from a network for two."""

from __future__ import annotations

import pytest
import torch

from fastmef.errors import InputError
from fastmef.inference.bracket import bracket_logits
from fastmef.nn.network import FusionNet


def network(exposures=2):
    torch.manual_seed(0)
    net = FusionNet(exposures=exposures, width=4).eval()
    torch.nn.init.normal_(net.body.head.weight)  # logits large enough to matter
    return net


@pytest.fixture
def bracket():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 4, 3, 19, 26, generator=generator)


@torch.no_grad()
def test_a_pair_is_the_network(bracket):
    net = network()
    weights = bracket_logits(net, bracket[:, :2]).softmax(1)
    torch.testing.assert_close(weights, net.logits(bracket[:, :2]).softmax(1))


@torch.no_grad()
@pytest.mark.parametrize("count", [3, 4])
def test_folds_from_the_dark_end(bracket, count):
    net = network()
    expected = bracket[:, 0]
    for k in range(1, count):
        expected = net(torch.stack((expected.clamp(0, 1), bracket[:, k]), dim=1)).fused
    weights = bracket_logits(net, bracket[:, :count]).softmax(1)
    assert weights.shape == (1, count, 19, 26)
    fused = (weights.unsqueeze(2) * bracket[:, :count]).sum(1)
    torch.testing.assert_close(fused, expected)


@torch.no_grad()
def test_a_network_for_the_number_is_asked_directly(bracket):
    net = network(3)
    assert torch.equal(bracket_logits(net, bracket[:, :3]), net.logits(bracket[:, :3]))


@pytest.mark.parametrize("count", [2, 4])
def test_other_numbers_are_refused(bracket, count):
    with pytest.raises(InputError, match=f"exactly 3 images, got {count}"):
        bracket_logits(network(3), bracket[:, :count])
