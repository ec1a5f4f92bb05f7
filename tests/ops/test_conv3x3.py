"""conv3x3 on every backend, as the network's module calls it: outputs and gradients."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conformance import NOT_FINITE, Backend, Case, Conformance
from torch import Tensor

from fastmef import backends
from fastmef.nn.convolution import Conv3x3


def _inputs(
    height: int, width: int, channels: tuple[int, int], padding: int
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    border = 2 * (1 - padding)
    x, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, channels[0], height + border, width + border), (*channels[::-1], 3, 3))
    )
    return x.to(memory_format=torch.channels_last), weight


def _by_module(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    module = Conv3x3(*weight.shape[1::-1], padding)
    module._parameters["weight"] = weight  # type: ignore[assignment]
    y: Tensor = module(x)
    return y


class TestConv3x3(Conformance):
    operation = "conv3x3"
    layout_changes_no_bit = False  # what is not channels last is PyTorch's
    cases = [
        Case(
            f"{inputs} to {outputs} channels, padding {padding}",
            partial(_by_module, padding=padding),
            partial(F.conv2d, padding=padding),
            partial(_inputs, channels=(inputs, outputs), padding=padding),
            grads=(0, 1),
            thorough=inputs == 16,
        )
        # The last panel of output channels has 16, 32, 48 or 64; 24 are PyTorch's.
        for inputs, outputs, padding in (
            (16, 16, 0),
            (16, 32, 1),
            (48, 112, 0),
            (80, 64, 1),
            (24, 16, 0),
        )
    ]

    @pytest.mark.parametrize("bad", NOT_FINITE)
    def test_not_finite(self, case: Case, backend: Backend, bad: float) -> None:
        """The kernels also pass on a value that is not finite to the neighbours in a tile."""
        if backend.kind != backends.CPP:
            return super().test_not_finite(case, backend, bad)
        clean = [x.float() for x in case.inputs(*self.size)]
        for index in range(len(clean)):
            inputs = [x.clone() for x in clean]
            inputs[index][0, 0, 1, 1] = bad
            expected = case.evaluate(case.reference, inputs)
            for e, f in zip(expected, self.run(case, backend, inputs), strict=True):
                assert not f[~e.isfinite()].isfinite().any()
