"""Mean SSIM with the gradient by one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from bench.convolution import by_convolution
from bench.gpu.steps import SHAPES, check, label, ssim_group, with_gradient
from fastmef import functional, reference


def plain(a: Tensor, b: Tensor) -> Tensor:
    return reference.ssim(a, b).mean()


def by_fused_ssim(a: Tensor, b: Tensor) -> Tensor:
    fused_ssim = pytest.importorskip("fused_ssim", reason="fused-ssim is not installed")
    return fused_ssim.fused_ssim(a[:, None], b[:, None], padding="valid")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile", "fused-ssim"])
def test_ssim(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    shape: tuple[int, ...],
    name: str,
) -> None:
    if name == "torch.compile" and shape != SHAPES[0]:
        pytest.skip("compiled for the patches only: every shape costs half a minute")
    a, b = scene(*fitted(*shape)), scene(*fitted(*shape), seed=1)
    others = {
        "eager": by_convolution(plain),
        "torch.compile": compiled(plain),
        "fused-ssim": by_fused_ssim,
    }
    both = with_gradient(others.get(name, functional.ssim))
    check(both, plain, a, b)
    clock(lambda: both(a, b), ssim_group(shape), 3 * a.numel() * 4)
