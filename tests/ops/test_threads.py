"""The losses have the same bits on the kernels' own threads."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from cases import LOSS
from torch import Tensor

from fastmef import functional

pytestmark = pytest.mark.usefixtures("kernels")


def loss(fused: Tensor, exposures: Tensor) -> Tensor:
    return functional.weighted_ssim_loss(fused, exposures, **LOSS, scales=(1.0, 0.5))


def fusion_loss(logits: Tensor, exposures: Tensor) -> Tensor:
    return functional.fusion_loss(logits, exposures, **LOSS, scales=(1.0,))


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_threads_of_its_own_give_the_same_bits(form: str, kernels: ModuleType) -> None:
    exposures = torch.rand(2, 2, 150, 300)
    source = torch.rand(2, 150, 300) if form == "fused" else torch.randn(2, 2, 150, 300)
    function = loss if form == "fused" else fusion_loss
    before = torch.get_num_threads()
    results = []
    try:
        torch.set_num_threads(3)
        for own in (False, True, True):
            kernels.use_own_threads(own)
            x = source.clone().requires_grad_()
            function(x, exposures).backward()
            results.append(x.grad)
    finally:
        kernels.use_own_threads(False)
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
