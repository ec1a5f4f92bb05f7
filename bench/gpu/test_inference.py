"""Time Fuser on arrays of 24 megapixels in main memory, and only the copies to and from the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastmef import Fuser, FusionNet

HEIGHT, WIDTH = 4000, 6000
ROUNDS = 10


def photographs(count: int, height: int, width: int) -> list[Any]:
    """Return noise over ramps of differing brightness."""
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3), np.uint8)
    ramp = np.linspace(0, 200, width).astype(np.uint8)[None, :, None]
    return [noise + ramp // np.uint8(2**k) for k in range(count)]


@pytest.fixture
def time_calls(benchmark: Any, pytestconfig: pytest.Config) -> Callable[..., None]:
    """Time calls whose result is in main memory when they return."""

    def run(function: Callable[[], object], group: str, moved: int) -> None:
        benchmark.group = group
        benchmark.extra_info["bytes"] = moved
        rehearsed = pytestconfig.getoption("--rehearse", default=False)
        rounds, warm = (1, 0) if rehearsed else (ROUNDS, 2)
        benchmark.pedantic(function, rounds=rounds, warmup_rounds=warm)

    return run


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", ["fastmef", "copies"])
def test_fuse_arrays(
    time_calls: Callable[..., None],
    device: torch.device,
    fitted: Callable[..., tuple[int, ...]],
    count: int,
    name: str,
) -> None:
    height, width = fitted(HEIGHT, WIDTH)
    images = photographs(count, height, width)
    # Every exposure is read twice.
    moved = (2 * count + 1) * images[0].nbytes
    group = f"fuse, 24 MP x {count}, arrays"
    if name == "copies":
        time_calls(lambda: copy_all(images, device), group, moved)
        return
    torch.manual_seed(0)
    network = FusionNet("any")
    fuser = Fuser(network, device=device)
    fused = fuser.fuse(images)
    expected = Fuser(network, device="cpu").fuse(images)
    assert np.abs(fused.astype(np.int16) - expected).mean() < 0.5
    time_calls(lambda: fuser.fuse(images), group, moved)


def copy_all(images: list[Any], device: torch.device) -> None:
    """Copy every exposure to the GPU twice, and one back, with ordinary pageable memory."""
    for image in images:
        for _ in range(2):
            on_device = torch.from_numpy(image).to(device)
    on_device.cpu()
