"""Time a loss after a loop of PyTorch, with one or two pools of threads in the process.

``fastmef`` runs its loops on the OpenMP threads that PyTorch has loaded. "threads of its own" is
its own pool, which it falls back to without OpenMP: PyTorch's threads still spin when it starts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastmef import backends, functional

SIZES = {"8x250x250": (8, 2, 250, 250), "1x64x64": (1, 2, 64, 64)}


@pytest.mark.skipif(backends.CPU is None, reason=f"C++ kernels: {backends.cpu_status()}")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["fastmef", "threads of its own"])
def test_threads(
    clock: Callable[..., None], photograph: Callable[..., Tensor], size: str, name: str
) -> None:
    exposures = photograph(*SIZES[size])
    fused = exposures.mean(dim=1).requires_grad_()
    scratch = torch.zeros(1 << 20)

    def run() -> Tensor:
        scratch.add_(1)
        return torch.autograd.grad(functional.weighted_ssim_loss(fused, exposures), fused)[0]

    right = run()
    try:
        backends.CPU.use_own_threads(name != "fastmef")  # type: ignore[union-attr]
        assert torch.equal(run(), right)
        clock(run, "a loop of PyTorch's, then the loss and its gradient", size, name)
    finally:
        backends.CPU.use_own_threads(False)  # type: ignore[union-attr]
