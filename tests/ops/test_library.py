"""The registered operators: schema, fakes, torch.compile without graph breaks, threads."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from fastmef import ops

pytestmark = pytest.mark.usefixtures("kernels")

LOSS = ("variance_gradient", False, 11, 1.5, 0.01, 0.03, 1e-4, 1e-12)
OPTIONS = dict(
    zip(("gamma", "luminance", "window", "sigma", "k1", "k2", "floor", "eps"), LOSS, strict=True)
)


def test_opcheck() -> None:
    fused, exposures = torch.rand(1, 20, 21), torch.rand(1, 2, 20, 21)
    color = torch.rand(1, 2, 3, 20, 21)
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("weighted_ssim_loss", (fused, exposures, None, *LOSS, [1.0], True)),
        ("weighted_ssim_loss", (exposures, exposures, None, *LOSS, [1.0, 2.0], False)),
        ("weighted_ssim_map", (fused, exposures, *LOSS)),
        ("weighted_ssim_map_backward", (torch.rand(1, 10, 11), fused, exposures, *LOSS)),
        ("softmax_fuse", (exposures, color, True)),
        ("softmax_fuse", (exposures, color.to(memory_format=torch.channels_last_3d), False)),
        ("softmax_fuse_backward", (color[:, 0], None, exposures, color, True, True)),
    ]
    for name, arguments in calls:
        torch.library.opcheck(getattr(torch.ops.fastmef, name).default, arguments)


def loss(fused: Tensor, exposures: Tensor) -> Tensor:
    return ops.loss.weighted_ssim_loss(fused, exposures, None, "mean", **OPTIONS, scales=(1.0, 0.5))


def loss_map(fused: Tensor, exposures: Tensor) -> Tensor:
    values = ops.loss.weighted_ssim_loss(fused, exposures, None, "none", **OPTIONS, scales=(1.0,))
    return values.square().sum()


def fusion_loss(logits: Tensor, exposures: Tensor) -> Tensor:
    return ops.loss.fusion_loss(logits, exposures, **OPTIONS, scales=(1.0,))


def fuse(logits: Tensor, exposures: Tensor) -> Tensor:
    fused, weights = ops.fusion.softmax_fuse(
        logits, exposures.unsqueeze(2).expand(-1, -1, 3, -1, -1)
    )
    return (fused.square().sum() + weights.square().sum()) / 100


def check_compiled(function: Callable[[Tensor, Tensor], Tensor], backend: str) -> None:
    exposures = torch.rand(2, 2, 24, 25)
    source = torch.rand(2, 24, 25) if function in (loss, loss_map) else torch.rand(2, 2, 24, 25)
    results = []
    for call in (function, torch.compile(function, fullgraph=True, backend=backend)):
        x = source.clone().requires_grad_()
        value = call(3 * x, exposures) * 2
        value.backward()
        results.append((value.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("function", [loss, loss_map, fusion_loss, fuse])
def test_compiles_without_graph_breaks(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    check_compiled(function, "aot_eager")


def all_losses(source: Tensor, exposures: Tensor) -> Tensor:
    fused = source[:, 0]
    return (
        loss(fused, exposures)
        + loss_map(fused, exposures)
        + fusion_loss(source, exposures)
        + fuse(source, exposures)
    )


def test_compiles_with_the_default_backend() -> None:
    """In one function: inductor takes seconds for each."""
    check_compiled(all_losses, "inductor")


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
