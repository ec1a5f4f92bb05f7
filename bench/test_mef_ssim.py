"""Time MEF-SSIM ma2015 at 3 scales of two 12-megapixel exposures, alone and with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from fastmef.functional import mef_ssim
from fastmef.metrics import MEFSSIM
from fastmef.reference.mef_ssim import MefSsimSources, mef_ssim_score, mef_ssim_sources

HEIGHT, WIDTH = 3000, 4000


class Reference:
    """MEFSSIM computed in plain PyTorch."""

    def __init__(self, exposures: Tensor) -> None:
        self.sources: MefSsimSources = mef_ssim_sources(exposures)

    def score(self, fused: Tensor) -> Tensor:
        return mef_ssim_score(self.sources, fused)


def score_and_gradient(score: Callable[[Tensor], Tensor], fused: Tensor) -> tuple[Tensor, Tensor]:
    x = fused.detach().requires_grad_()
    value = score(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


@lru_cache(maxsize=1)
def scene() -> tuple[Tensor, Tensor]:
    """Return grey exposures and a fused image, float32."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 1, HEIGHT // 4, WIDTH // 4, generator=generator)
    size = (HEIGHT, WIDTH)
    smooth = torch.nn.functional.interpolate(noise, size, mode="bicubic").clamp(0, 1)
    exposures = torch.cat([0.4 * smooth, (1.4 * smooth).clamp_max(1.0)], dim=1)
    return exposures, exposures.mean(dim=1)


@lru_cache(maxsize=1)
def exact() -> tuple[Tensor, Tensor]:
    exposures, fused = (x.double() for x in scene())
    return score_and_gradient(Reference(exposures).score, fused)


@pytest.mark.parametrize("mode", ["score", "score, sources cached", "gradient, sources cached"])
@pytest.mark.parametrize("name", ["fastmef", "eager"])
def test_mef_ssim(
    clock: Callable[..., None], check: Callable[..., None], mode: str, name: str
) -> None:
    exposures, fused = scene()
    make = MEFSSIM if name == "fastmef" else Reference
    if mode == "score":
        run: Callable[[], tuple[Tensor, ...]] = {
            "fastmef": lambda: (mef_ssim(fused, exposures),),
            "eager": lambda: (Reference(exposures).score(fused),),
        }[name]
    elif mode == "score, sources cached":
        score = make(exposures).score
        run = lambda: (score(fused),)  # noqa: E731
    else:
        score = make(exposures).score
        run = lambda: score_and_gradient(score, fused)  # noqa: E731
    right = exact()
    with torch.set_grad_enabled(mode == "gradient, sources cached"):
        check(run(), right, name)
        clock(run, "MEF-SSIM ma2015, 3 scales, 12 MP x 2", mode, name)
