"""Time the C++ kernels with each instruction set, as on processors without AVX-512 or AVX2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional, reference
from fastmef.reference.mef_ssim import mef_ssim as reference_mef_ssim

SIZE = (8, 2, 250, 250)
SETS = ["avx512", "avx2", "baseline"]


@pytest.fixture
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the kernels with one set; FASTMEF_CPU_ISA would select it for the whole process."""
    if backends.CPU is None:
        pytest.skip(f"C++ kernels: {backends.cpu_status()}")
    before = backends.CPU.active_isa()
    if not backends.CPU.use_isa(request.param):
        pytest.skip(f"this processor or build has no {request.param} variant")
    yield request.param
    backends.CPU.use_isa(before)


def differentiated(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def run(source: Tensor) -> tuple[Tensor, ...]:
        x = source.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value, x)
        return value.detach(), gradient

    return run


def calls(exposures: Tensor) -> dict[str, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Return operation → function of F or of the logits; float64 runs the reference."""
    exact = exposures.dtype == torch.float64
    module: Any = reference if exact else functional
    score = reference_mef_ssim if exact else functional.mef_ssim
    colors = exposures.unsqueeze(2).expand(-1, -1, 3, -1, -1).contiguous()

    def fuse(logits: Tensor) -> tuple[Tensor, ...]:
        if exact:
            return reference.softmax_fuse(logits, colors)[:1]
        return (functional.softmax_fuse(logits, colors),)

    return {
        "weighted_ssim_loss": differentiated(lambda x: module.weighted_ssim_loss(x, exposures)),
        "fusion_loss": differentiated(lambda x: module.fusion_loss(x, exposures)),
        "softmax_fuse": fuse,
        "mef_ssim": lambda x: (score(exposures, x),),
    }


@pytest.mark.parametrize("op", ["weighted_ssim_loss", "fusion_loss", "softmax_fuse", "mef_ssim"])
@pytest.mark.parametrize("instructions", SETS, indirect=True)
def test_isa(
    clock: Callable[..., None],
    photograph: Callable[..., Tensor],
    once: Callable[..., Any],
    check: Callable[..., None],
    instructions: str,
    op: str,
) -> None:
    exposures = photograph(*SIZE) * torch.tensor([0.4, 1.0]).reshape(1, 2, 1, 1)
    logits = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    source = logits if op in ("fusion_loss", "softmax_fuse") else exposures.mean(dim=1)
    exact = once(op, lambda: calls(exposures.double())[op](source.double()))
    run = calls(exposures)[op]
    check(run(source), exact, "fastmef")
    clock(lambda: run(source), "instruction sets, 8x250x250", op, instructions)
