"""Time mean SSIM with the gradient w.r.t. one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from bench.competitors import competitors
from bench.convolution import with_conv2d
from bench.gpu.steps import SHAPES, check, label, ssim_group, with_gradient
from fastmef import functional, reference


def plain(a: Tensor, b: Tensor) -> Tensor:
    return reference.ssim(a, b).mean()


COMPETITORS = competitors("ssim on a GPU")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("name", ["fastmef", "eager", "torch.compile", *COMPETITORS])
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
    if name in COMPETITORS:
        function = COMPETITORS[name].load()
    else:
        others = {"eager": with_conv2d(plain), "torch.compile": compiled(plain)}
        function = others.get(name, functional.ssim)
    both = with_gradient(function)
    check(both, plain, a, b)
    clock(lambda: both(a, b), ssim_group(shape), 3 * a.numel() * 4)
