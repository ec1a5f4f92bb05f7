"""Time the host side of a loss on a GPU: Python and dispatch of both passes, launches stubbed.

The images are small CPU tensors that replace GPU tensors: host time does not depend on their size.
Beside the losses stands the time that PyTorch takes for a function that computes nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.machine_code.recording import recording
from fastmef import functional


@pytest.fixture
def silent():
    """Replace compiled CUDA kernels by stubs that launch nothing."""
    module = ModuleType("silent")
    vars(module).update(
        loss_workspace=lambda *sizes: 1,
        LossLaunch=lambda *given: lambda *addresses: None,
        scale_gradient=lambda *given: None,
    )
    return SimpleNamespace(module=module, listening=lambda record: nullcontext())


class Nothing(torch.autograd.Function):
    """A scalar and a gradient, as the losses have them, without values."""

    @staticmethod
    def forward(source: Tensor, exposures: Tensor) -> tuple[Tensor, Tensor]:
        return source.new_empty(()), torch.empty_like(source)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(outputs[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(outputs[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0], None


def test_floor_of_an_autograd_function(benchmark):
    source, exposures = torch.zeros(8, 2, 16, 16, requires_grad=True), torch.rand(8, 2, 16, 16)
    apply = super(torch.autograd.Function, Nothing).apply  # without binding arguments to names

    def both_passes():
        source.grad = None
        apply(source, exposures)[0].backward()

    benchmark.group = "host side, launches stubbed"
    benchmark.extra_info.update(op=benchmark.group, row="nothing", name="PyTorch")
    benchmark.pedantic(both_passes, rounds=200, iterations=5, warmup_rounds=5)


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
