"""Time the host side of a loss on a GPU: Python and dispatch of both passes, launches stubbed.

The images are small CPU tensors that replace GPU tensors: host time does not depend on their size.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from bench.machine_code.recording import recording
from fastmef import functional


@pytest.fixture
def silent():
    """Replace compiled CUDA kernels by stubs that launch nothing."""
    module = SimpleNamespace(
        loss_workspace=lambda *sizes: 1,
        fusion_loss=lambda *given: None,
        scale_gradient=lambda *given: None,
    )
    return SimpleNamespace(module=module, listening=lambda record: nullcontext())


@pytest.mark.parametrize("name", ["weighted_ssim_loss", "fusion_loss"])
def test_host_side_of_the_loss(name, silent, benchmark):
    exposures = torch.rand(8, 2, 16, 16)
    logits = torch.zeros(8, 2, 16, 16) if name == "fusion_loss" else torch.zeros(8, 16, 16)
    logits.requires_grad_()
    loss = getattr(functional, name)

    def both_passes():
        logits.grad = None
        loss(logits, exposures).backward()

    with recording(("cuda",), silent, silent):
        both_passes()
        assert logits.grad.shape == logits.shape
        benchmark.group = "host side, launches stubbed"
        benchmark.extra_info.update(op=benchmark.group, row=name, name="fastmef")
        benchmark.pedantic(both_passes, rounds=200, iterations=5, warmup_rounds=5)
