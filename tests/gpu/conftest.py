"""Tests that need a GPU. The tests of values are in tests/kernels, which runs on a GPU as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional, reference
from fastmef.ops import norm_act
from fastmef.ops.common.operation import OPERATIONS

HERE = Path(__file__).parent
# If terms cancel, the largest error of a single image varies several-fold in every implementation.
IMAGES = 8


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no GPU that torch can use")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


@dataclass(frozen=True)
class Operation:
    """A public operation with its inputs, for comparing outputs and gradients w.r.t. all inputs."""

    name: str
    function: Callable[..., Any]
    exact: Callable[..., Any]
    axes: tuple[int, ...]  # number of axes of each input, including height and width
    fixed: tuple[int, ...] = ()  # positions of inputs without a gradient
    count: int = 3  # number of exposures; two exposures have CUDA kernels of their own

    def inputs(self, height: int, width: int, seed: int = 0) -> list[Tensor]:
        """Return inputs of noise over ramps, on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {2: (IMAGES,), 3: (IMAGES, self.count), 4: (IMAGES, self.count, 3)}
        ramp = torch.linspace(0, 0.5, width)
        return [
            (ramp + 0.5 * torch.rand(*shapes[n], height, width, generator=generator))
            for n in self.axes
        ]

    def run(self, function: Callable[..., Any], inputs: list[Tensor]) -> list[Tensor]:
        """Return the outputs, then the gradients of the sum of their squares."""
        given = [x.detach().requires_grad_(i not in self.fixed) for i, x in enumerate(inputs)]
        outputs = function(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [x for x in given if x.requires_grad]
        if not wanted:
            return list(outputs)
        total = torch.stack([(x * x).sum() for x in outputs]).sum()
        return [*(x.detach() for x in outputs), *torch.autograd.grad(total, wanted)]


def _fuse(logits: Tensor, exposures: Tensor) -> Any:
    return functional.softmax_fuse(logits, exposures, return_weights=True)


def _enlarging(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda logits, exposures: function(logits[..., ::3, ::3], exposures)


_GUIDED = (
    _enlarging(functional.guided_upsample_fuse),
    _enlarging(reference.guided.guided_upsample_fuse),
)


def _halved_twice(logits: Tensor) -> Tensor:
    return logits[..., ::2, ::2][..., ::2, ::2]


_MULTISCALE = (
    lambda logits, exposures: functional.multiscale_fuse(_halved_twice(logits), exposures),
    lambda logits, exposures: reference.multiscale_fuse(_halved_twice(logits), exposures, 2),
)


def _scored(variant: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def score(fused: Tensor, exposures: Tensor) -> Tensor:
        return functional.mef_ssim(fused, exposures, variant)

    def exact(fused: Tensor, exposures: Tensor) -> Tensor:
        return reference.mef_ssim.mef_ssim(fused, exposures, variant)

    return score, exact


def _normalised(features: Tensor) -> Tensor:
    features = features.contiguous(memory_format=torch.channels_last)
    statistics = norm_act.statistics(features.detach(), None, None, 0.0)
    weight, bias = features.new_ones(features.shape[1]), features.new_zeros(features.shape[1])
    given = (weight, bias, *statistics.unbind(0), 1e-5, "", False, None)
    return norm_act.norm_act(features, *given)[0]


def _normalised_exactly(features: Tensor) -> Tensor:
    return torch.relu(torch.nn.functional.batch_norm(features, None, None, training=True))


THREE_SCALES = (1.0, 0.5, 0.25)
_TABLE = [
    Operation("softmax_fuse", _fuse, reference.softmax_fuse, (3, 4)),
    Operation("softmax_fuse", _fuse, reference.softmax_fuse, (3, 4), count=2),
    Operation("guided_upsample_fuse", *_GUIDED, (3, 4)),
    Operation("guided_upsample_fuse", *_GUIDED, (3, 4), count=2),
    Operation("multiscale_fuse", *_MULTISCALE, (3, 4), fixed=(1,)),
    Operation("multiscale_fuse", *_MULTISCALE, (3, 4), fixed=(1,), count=2),
    Operation("local_variance", functional.local_variance, reference.local_variance, (3,)),
    Operation("sobel_gradient", functional.sobel_gradient, reference.sobel_gradient, (3,)),
    Operation("gamma_weights", functional.gamma_weights, reference.gamma_weights, (3,)),
    Operation("ssim", functional.ssim, lambda a, b: reference.ssim(a, b).mean(), (3, 3)),
    Operation(
        "weighted_ssim_loss",
        functional.weighted_ssim_loss,
        reference.weighted_ssim_loss,
        (2, 3),
        fixed=(1,),
    ),
    Operation("fusion_loss", functional.fusion_loss, reference.fusion_loss, (3, 3), fixed=(1,)),
    Operation("fusion_loss", functional.fusion_loss, reference.fusion_loss, (3, 3), (1,), count=2),
    Operation(
        "weighted_ssim_loss",
        partial(functional.weighted_ssim_loss, scales=THREE_SCALES),
        partial(reference.weighted_ssim_loss, scales=THREE_SCALES),
        (2, 3),
        fixed=(1,),
        count=2,
    ),
    Operation("mef_ssim", *_scored("ma2015"), (2, 3), fixed=(1,)),
    Operation("mef_ssim", *_scored("mefnet"), (2, 3), fixed=(1,)),
    Operation(
        "exposure_pyramid",
        lambda exposures: functional.exposure_pyramid(exposures, 2).base,
        lambda exposures: reference.pyramid.reduce(reference.pyramid.reduce(exposures)),
        (4,),
        fixed=(0,),
    ),
    Operation("norm_act", _normalised, _normalised_exactly, (3,)),
]


@pytest.fixture(params=_TABLE, ids=lambda operation: operation.name)
def operation(request: pytest.FixtureRequest) -> Operation:
    """Return each operation that has a Triton kernel."""
    if backends.WHY_NO_TRITON:
        pytest.skip(backends.WHY_NO_TRITON)
    if backends.TRITON not in OPERATIONS[request.param.name].support:
        pytest.skip("the reference runs this operation on GPUs")
    return request.param
