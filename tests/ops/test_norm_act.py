"""norm_act on every backend, as the network's block calls it: outputs and gradients.

Nothing is normalised but features in channels-last order; others go through PyTorch's modules.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from conformance import NOT_FINITE, Backend, Case, Conformance
from torch import Tensor, nn

from fastmef import backends
from fastmef.nn.blocks import ConvNormAct
from fastmef.ops import norm_act as op
from fastmef.reference.norm_act import moments, norm_act

CHANNELS = 5
MEAN, VARIANCE = torch.linspace(-0.5, 0.5, CHANNELS), torch.linspace(0.5, 2, CHANNELS)


def _inputs(height: int, width: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    features, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, CHANNELS, height, width), (CHANNELS,), (CHANNELS,))
    )
    features = features.to(memory_format=torch.channels_last)
    return features, 0.5 + weight, 0.5 + bias


def _wanted(y: Tensor, after: Tensor, then: str) -> Tensor | tuple[Tensor, Tensor]:
    return (y, after) if then == "pool" else after if then else y


def _by_block(features: Tensor, weight: Tensor, bias: Tensor, then: str, training: bool) -> Any:
    block: Any = ConvNormAct(CHANNELS, CHANNELS, padding="zeros").to(features.device)
    norm = block[1].train(training)
    norm.running_mean, norm.running_var = (x.to(features.device) for x in (MEAN, VARIANCE))
    if features.dtype == torch.float64:
        norm.double()
    else:  # PyTorch's module needs float32 parameters for half precision
        weight, bias = weight.float(), bias.float()
    norm._parameters.update(weight=weight, bias=bias)
    block[0] = nn.Identity()
    y = block(features, then, then == "pool")
    return _wanted(*y, then) if then else y


def _by_reference(features: Tensor, weight: Tensor, bias: Tensor, then: str, training: bool) -> Any:
    statistics = moments(features)[:2] if training else (MEAN, VARIANCE)
    mean, variance = (x.to(features.dtype) for x in statistics)
    return _wanted(*norm_act(features, mean, variance, weight, bias, 1e-5, then), then)


class TestNormAct(Conformance):
    operation = "norm_act"
    layout_changes_no_bit = False  # PyTorch computes other layouts than channels last
    sizes = ((2, 2), (3, 5), (3, 131))
    cases = [
        Case(
            f"{then or 'alone'}, {'batch' if training else 'running'} statistics",
            partial(_by_block, then=then, training=training),
            partial(_by_reference, then=then, training=training),
            _inputs,
            grads=(0, 1, 2),
            # The gradient through the statistics cancels.
            noise=(1e-6, 1e-5),
            # Upsampling and border round their gradients as well.
            roundings=1 + ("bilinear" in then) + ("border" in then),
            thorough=training,
        )
        for then in ("", "border", "pool", "pool border", "bilinear", "bilinear border")
        for training in (True, False)
    ]

    def make_every_call(self, backend: Backend) -> None:
        super().make_every_call(backend)
        if backend.kind == backends.CPP:
            return  # C++ has no kernel that merges statistics of processes
        parts = torch.rand(2, 3, CHANNELS, device=backend.device) + 1  # of two processes
        running = torch.rand(2, CHANNELS, device=backend.device).unbind()
        op.merge_statistics(parts, *running, 0.1)

    @pytest.fixture(autouse=True)
    def kernels_only(self, request: pytest.FixtureRequest, backend: Backend) -> None:
        """PyTorch's modules round between their steps, and propagate infinity in their own way.

        On the CPU they run all with running statistics.
        """
        if request.function.__name__ not in ("test_half_precision", "test_not_finite"):
            return
        name = request.getfixturevalue("case").name
        trains = backend.kind == backends.CPP and name.endswith("batch statistics")
        if not (trains or backend.kind in (backends.CUDA, backends.TRITON)):
            pytest.skip("promised by the kernels alone")

    @pytest.mark.parametrize("bad", NOT_FINITE)
    def test_not_finite(self, case: Case, backend: Backend, bad: float) -> None:
        if case.name.startswith("bilinear") and math.isinf(bad):
            pytest.skip("a share of 0 leaves infinity out, where PyTorch multiplies by it")
        super().test_not_finite(case, backend, bad)
