"""Time fastmef.fuse in memory and its competitors, and its base for brackets of several lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fastmef
from bench.competitors import competitors
from fastmef import functional
from fastmef.inference.core import STEPS
from fastmef.inference.exposure_body import exposure_logits
from fastmef.inference.models import ready_model
from fastmef.inference.refine import refine_logits

OP = "fuse, two photographs"
BASE_OP = "network and descent on the base"
SIZES = {"0.7 MP": (720, 972), "12 MP": (3000, 4000), "24 MP": (4000, 6000)}
BASE = (250, 256)  # 64 kpixels


def photographs(height: int, width: int, count: int = 2) -> list[NDArray[np.uint8]]:
    """Return ``count`` exposures ``(H, W, 3)`` of a textured gradient."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / width
    light = np.exp(3 * x - 2 * y) * generator.uniform(0.8, 1.2, (height, width)).astype(np.float32)
    frames = [np.clip(light * 2.0**stop, 0, 1) ** (1 / 2.2) for stop in np.linspace(-3, 1, count)]
    return [np.repeat(np.uint8(255 * frame)[..., None], 3, axis=2) for frame in frames]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["fastmef", "fastmef, network alone", *competitors("fuse")])
def test_fuse(clock: Callable[..., None], size: str, name: str) -> None:
    images = photographs(*SIZES[size])
    if name in competitors("fuse"):
        merge = competitors("fuse")[name].load()

        def run() -> NDArray[np.uint8]:
            return np.uint8(np.clip(merge(images) * 255 + 0.5, 0, 255))
    else:
        steps = STEPS if name == "fastmef" else 0

        def run() -> NDArray[np.uint8]:
            return fastmef.fuse(images, refine=steps)

    fused = run()
    assert fused.shape == images[0].shape and fused.dtype == np.uint8
    # Every method keeps the gradient: dark on the left, bright on the right, neither clipped.
    left, right = fused[:, : fused.shape[1] // 4], fused[:, -fused.shape[1] // 4 :]
    assert 10 < left.mean() < right.mean() < 250
    clock(run, OP, size, name)


@pytest.mark.parametrize("count", [2, 5, 9, 30])
@pytest.mark.parametrize("name", ["network", "network and descent"])
def test_base(clock: Callable[..., None], count: int, name: str) -> None:
    frames = photographs(*BASE, count)
    base = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    network, _ = ready_model("default", "cpu")
    shares = functional.exposure_shares(base)
    steps = STEPS if name == "network and descent" else 0

    @torch.no_grad()
    def run() -> torch.Tensor:
        logits = exposure_logits(network, base, shares) + shares.log()[..., None, None]
        return refine_logits(logits, base, shares, steps)

    assert torch.equal(run(), run())
    clock(run, BASE_OP, f"{count} exposures", name)
