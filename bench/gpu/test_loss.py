"""Time the losses with their gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from bench.competitors import competitors
from bench.convolution import with_conv2d
from bench.gpu.steps import EXPOSURES, SHAPES, check, label, loss_group, with_gradient
from fastmef import functional, reference

COMPETITORS = competitors("weighted_ssim_loss on a GPU")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("loss", ["weighted_ssim_loss", "fusion_loss"])
@pytest.mark.parametrize("name", ["fastmef", "triton", "eager", "torch.compile"])
def test_loss(
    clock: Callable[..., None],
    compiled: Callable[..., Any],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    triton_only: Callable[[], None],
    shape: tuple[int, ...],
    loss: str,
    name: str,
) -> None:
    if name == "torch.compile" and loss == "fusion_loss" and shape != SHAPES[0]:
        pytest.skip("compiled for the patches only: every shape costs half a minute")
    batch, height, width = fitted(*shape)
    from_logits = loss == "fusion_loss"
    exposures = scene(batch, EXPOSURES, height, width)
    source = scene(batch, *((EXPOSURES,) if from_logits else ()), height, width, seed=1)
    plain: Any = getattr(reference, loss)
    if name == "triton":  # two passes instead of one
        triton_only()
    others = {"eager": with_conv2d(plain), "torch.compile": compiled(plain)}
    both = with_gradient(others.get(name, getattr(functional, loss)))
    check(both, plain, source, exposures)
    # A pass reads F or the logits, and the exposures, and writes the gradient.
    moved = 4 * (2 * source.numel() + exposures.numel())
    clock(lambda: both(source, exposures), loss_group(loss, shape), moved)


@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("name", [f"{name}, luminance" for name in ("fastmef", *COMPETITORS)])
def test_pairs(
    clock: Callable[..., None],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    shape: tuple[int, ...],
    name: str,
) -> None:
    batch, height, width = fitted(*shape)
    exposures, fused = scene(batch, EXPOSURES, height, width), scene(batch, height, width, seed=1)

    def ours(f: Tensor, i: Tensor) -> Tensor:
        return functional.weighted_ssim_loss(f, i, luminance=True)

    def plain(f: Tensor, i: Tensor) -> Tensor:
        return reference.weighted_ssim_loss(f, i, luminance=True)

    package = name.removesuffix(", luminance")
    both = with_gradient(ours if package == "fastmef" else COMPETITORS[package].load())
    check(both, plain, fused, exposures)
    moved = 4 * (2 * fused.numel() + exposures.numel())
    clock(lambda: both(fused, exposures), loss_group("weighted_ssim_loss", shape), moved)
