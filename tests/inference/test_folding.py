"""Folded networks compute what the network computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmef.inference.folding import fold_batchnorm
from fastmef.nn.network import FusionNet


def trained_looking(exposures=2, **options):
    torch.manual_seed(0)
    network = FusionNet(exposures, width=4, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


@pytest.mark.parametrize("skip_connections", [False, True])
@pytest.mark.parametrize(("exposures", "count"), [(2, 2), ("any", 2), ("any", 5)])
def test_same_logits(exposures, count, skip_connections):
    network = trained_looking(exposures, skip_connections=skip_connections).double()
    if network.takes_any:
        nn.init.normal_(network.body.encoder[-1].scene.weight)
    exposures = torch.rand(1, count, 3, 21, 34, dtype=torch.float64)
    folded = fold_batchnorm(network)
    expected = network.eval().logits(exposures)
    torch.testing.assert_close(folded.logits(exposures), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("exposures", [2, "any"])
def test_nothing_left_to_normalise(exposures):
    folded = fold_batchnorm(trained_looking(exposures))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not folded.training


@pytest.mark.parametrize("exposures", [2, "any"])
def test_the_network_stays_as_it_is(exposures):
    network = trained_looking(exposures).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fold_batchnorm(network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
