"""Time the memory traffic of fused-ssim's scheme, in the groups of the loss and of SSIM."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from bench.gpu.steps import EXPOSURES, SHAPES, label, loss_group, ssim_group


@pytest.mark.usefixtures("triton_runs")
@pytest.mark.parametrize("shape", SHAPES, ids=label)
@pytest.mark.parametrize("loss", ["ssim", "weighted_ssim_loss"])
def test_memory_traffic_of_fused_ssim(
    clock: Callable[..., None],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    shape: tuple[int, ...],
    loss: str,
) -> None:
    """Time one pair, or all pairs of the weighted loss without its weights."""
    from bench.gpu.scheme import FILLS, PASSES, check_traffic, traffic

    fused = scene(*fitted(*shape), seed=EXPOSURES)
    count = 1 if loss == "ssim" else EXPOSURES
    pairs = [(fused, scene(*fitted(*shape), seed=k)) for k in range(count)]
    for pair in pairs:
        check_traffic(*pair)
    moved = count * (PASSES + FILLS) * fused.numel() * 4
    step = ssim_group(shape) if loss == "ssim" else loss_group(loss, shape)
    clock(lambda: [traffic(*pair) for pair in pairs], step, moved)
