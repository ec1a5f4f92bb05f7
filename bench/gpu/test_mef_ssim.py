"""Time MEF-SSIM of two 12-megapixel exposures, alone and with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.gpu.steps import check, with_gradient
from fastmef.functional import mef_ssim
from fastmef.metrics import MEFSSIM
from fastmef.reference.mef_ssim import mef_ssim_score, mef_ssim_sources

HEIGHT, WIDTH = 3000, 4000


@pytest.mark.parametrize("variant", ["ma2015", "mefnet"])
@pytest.mark.parametrize("mode", ["score", "gradient, sources cached"])
@pytest.mark.parametrize("name", ["fastmef", "eager"])
def test_mef_ssim(
    clock: Callable[..., None],
    fitted: Callable[..., tuple[int, ...]],
    scene: Callable[..., Tensor],
    variant: str,
    mode: str,
    name: str,
) -> None:
    exposures = scene(*fitted(1, 2, HEIGHT, WIDTH))
    fused = exposures.mean(dim=1)

    def plain(x: Tensor) -> Tensor:
        # The dtype is that of x, so this is also the float64 reference.
        return mef_ssim_score(mef_ssim_sources(exposures.to(x.dtype), variant), x)

    group = f"mef_ssim {variant}, 12 MP x 2, {mode}"
    if mode == "score":
        score: Any = lambda x: mef_ssim(x, exposures, variant)  # noqa: E731
        run = plain if name == "eager" else score
        assert (run(fused) - plain(fused.double())).abs().max() <= 1e-5
        with torch.no_grad():
            clock(lambda: run(fused), group)
        return
    if name == "eager":
        sources = mef_ssim_sources(exposures, variant)
        both = with_gradient(lambda x: mef_ssim_score(sources, x))
    else:
        both = with_gradient(MEFSSIM(exposures, variant).score)
    check(both, plain, fused)
    clock(lambda: both(fused), group)
