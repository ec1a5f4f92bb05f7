"""Gradients of borders and resampling equal PyTorch's, without operations that add in any order.

On a GPU PyTorch's own gradients of these use atomics. ``gathered`` takes the path of CUDA tensors
on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastmef import reference
from fastmef.nn import blocks
from fastmef.nn.bodies import StackBody
from fastmef.reference import resampling
from fastmef.reference.borders import mirror_border, repeat_border
from fastmef.reference.guided import enlarge, guided_upsample_fuse
from fastmef.reference.pyramid import expand, reduce, shrink

# https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
ANY_ORDER = (
    "pad2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bilinear2d_aa_backward",
    "adaptive_avg_pool2d_backward",
    "index_add",
    "index_put",
    "scatter_add",
    "put_",
)


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (resampling, blocks):
        monkeypatch.setattr(module, "gathers_gradient", lambda planes: planes.requires_grad)


def images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def gradient(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return the gradient of a sum with weights that differ from pixel to pixel."""
    inputs = inputs.detach().requires_grad_()
    result = function(inputs)
    weights = torch.linspace(1, 2, result.numel(), dtype=result.dtype).reshape(result.shape)
    (found,) = torch.autograd.grad(result, inputs, weights)
    return found


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 1), (4, 5)], ids=str)
@pytest.mark.parametrize(
    "margins", [(1, 1, 1, 1), (0, 1, 0, 1), (3, 3, 3, 3), (0, 0, 2, 0)], ids=str
)
def test_repeated_border(size: tuple[int, int], margins: tuple[int, int, int, int]) -> None:
    planes = images(2, 3, *size)
    plain = gradient(lambda x: F.pad(x, margins, mode="replicate"), planes)
    torch.testing.assert_close(gradient(lambda x: repeat_border(x, *margins), planes), plain)


def test_repeated_border_keeps_channels_last() -> None:
    planes = images(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    wider = repeat_border(planes, 1, 1, 1, 1)
    (found,) = torch.autograd.grad(wider, planes, torch.ones_like(wider))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_mirrored_border() -> None:
    planes = images(2, 3, 4, 6)
    plain = gradient(lambda x: F.pad(x, (2, 2, 3, 3), mode="reflect"), planes)
    torch.testing.assert_close(gradient(lambda x: mirror_border(x, 2, 3), planes), plain)


RESAMPLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "enlarged": lambda x: resampling.bilinear(x, (11, 15)),
    "shrunk": lambda x: resampling.bilinear(x, (3, 4), antialias=True),
    "guide": lambda x: resampling.resample(F.adaptive_avg_pool2d, x, (3, 4)),
    "guided": lambda x: resampling.resample(enlarge, x, (13, 16)),
    "doubled": lambda x: blocks.follow(x, "bilinear"),
}


@pytest.mark.parametrize("name", RESAMPLINGS)
def test_resampling(name: str, request: pytest.FixtureRequest) -> None:
    function, planes = RESAMPLINGS[name], images(2, 3, 5, 7)
    plain = gradient(function, planes)
    request.getfixturevalue("gathered")
    torch.testing.assert_close(gradient(function, planes), plain, rtol=1e-6, atol=1e-6)


class Operations(TorchDispatchMode):
    """List the names of all operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def network(x: Tensor) -> Tensor:
    return StackBody(2, 1, 1, True, "bilinear", "replicate").double()(x)


def guided(logits: Tensor) -> Tensor:
    return guided_upsample_fuse(logits, images(1, 2, 3, 20, 24))


CASES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "network": (network, (1, 2, 16, 24)),
    "halve": (reference.halve, (2, 5, 7)),
    "reduce": (reduce, (2, 5, 7)),
    "expand": (lambda x: expand(x, (9, 13)), (2, 5, 7)),
    "shrink": (lambda x: shrink(x, (3, 4)), (2, 5, 7)),
    "sobel_gradient": (reference.sobel_gradient, (2, 5, 7)),
    "reflected windows": (lambda x: reference.window_filter(x, 3, border="reflect"), (2, 5, 7)),
    "guided": (guided, (1, 2, 5, 6)),
    "guided by exposures": (
        lambda x: guided_upsample_fuse(images(1, 2, 5, 6), x),
        (1, 2, 3, 20, 24),
    ),
    "multiscale_fuse": (
        lambda x: reference.multiscale_fuse(x, images(1, 2, 3, 40, 44), 2),
        (1, 2, 9, 10),
    ),
}


@pytest.mark.usefixtures("gathered")
@pytest.mark.parametrize("name", CASES)
def test_no_gradient_adds_in_any_order(name: str) -> None:
    function, shape = CASES[name]
    with Operations() as run:
        gradient(function, images(*shape))
    assert not [x for x in run.names if any(part in x for part in ANY_ORDER)]
