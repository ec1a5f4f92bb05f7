"""MEF-SSIM on every backend: score and gradient, from maps that are kept and in one sweep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from cases import COLOR, EXPOSURES, MASK, same_bits_in_threads
from conformance import Case, Conformance
from torch import Tensor

from fastmef import backends, functional
from fastmef.ops import mef_ssim as mef_ssim_operation
from fastmef.ops.mef_ssim import STEPS
from fastmef.reference import mef_ma2015
from fastmef.reference.mef_ma2015 import WHITE
from fastmef.reference.mef_ssim import mef_ssim, mef_ssim_score, mef_ssim_sources

Score = Callable[..., Tensor]


def _scene(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return exposures in [0, 1] of the same structure but different brightness and contrast."""
    generator = torch.Generator().manual_seed(0)
    common, noise, level, other = (
        torch.rand(shape, generator=generator, dtype=torch.float64)
        for shape in (
            (2, 1, height, width),
            (2, count, height, width),
            (2, count, 1, 1),
            (2, height, width),
        )
    )
    exposures = 0.5 * level + 0.3 * common * (0.5 + level) + 0.1 * noise
    return 0.8 * exposures.mean(dim=1) + 0.1 * other, exposures


def _pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    return _scene(2, height, width)


def _color(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return RGB exposures; each channel has the structure of its own scene."""
    fused, exposures = _scene(3 * count, height, width)
    exposures = exposures.unflatten(1, (count, 3))
    generator = torch.Generator().manual_seed(1)
    tint = 0.2 * torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    return 0.8 * fused.unsqueeze(1) + tint, exposures


def _bright_flat_color(height: int, width: int) -> tuple[Tensor, ...]:
    return tuple(0.9 + 2e-3 * (x - 0.5) for x in _color(2, height, width))


def _flat(height: int, width: int) -> tuple[Tensor, Tensor]:
    fused, exposures = _scene(3, height, width)
    exposures = exposures.clone()
    exposures[:, 1] = 0.9
    return fused, exposures


def _bright_flat(height: int, width: int) -> tuple[Tensor, ...]:
    return tuple(0.9 + 2e-3 * (x - 0.5) for x in _scene(2, height, width))


def _summed(score: Score, fused: Tensor, exposures: Tensor) -> Tensor:
    """Return the sum over pixels instead of the mean, whose gradients do not depend on the size."""
    return fused[0].numel() * score(fused, exposures)


def _from_maps(fused: Tensor, exposures: Tensor, variant: str, scales: int | None) -> Tensor:
    return mef_ssim_score(mef_ssim_sources(exposures, variant, scales, STEPS), fused, STEPS)


def _case(
    variant: str,
    name: str,
    inputs: Callable[[int, int], tuple[Tensor, ...]] = _pair,
    scales: int | None = None,
    kept: bool = False,
    thorough: bool = False,
) -> Case:
    options = {"variant": variant, "scales": scales}
    score = partial(_from_maps if kept else functional.mef_ssim, **options)
    return Case(
        f"{variant}, {name}",
        partial(_summed, score),
        partial(_summed, partial(mef_ssim, **options)),
        inputs,
        # The derivative of one window's score reaches 1 / C2 = 1000 and cancels where it is flat.
        noise=(2e-5, 1e-4),
        thorough=thorough,
    )


def _small_windows(module: Any, fused: Tensor, exposures: Tensor) -> Tensor:
    """Score in windows of 5 pixels, as the descent of ``fuse()`` does."""
    level = module.ma2015_level(WHITE * exposures, 5, 1.2)
    return fused[0].numel() * module.ma2015_quality(level, WHITE * fused, 5, 1.2)


_SMALL_WINDOWS = tuple(
    Case(
        f"ma2015, windows of 5 pixels, {count} exposures",
        partial(_small_windows, mef_ssim_operation),
        partial(_small_windows, mef_ma2015),
        partial(_scene, count),
        grads=(0,),
        noise=(2e-5, 1e-4),
    )
    for count in (2, 3)
)


# The interpreter takes its time for every tap of windows of 11 pixels.
_MORE = (
    _case("ma2015", "one scale", scales=1),
    _case("ma2015", "three scales", thorough=True),
    _case("ma2015", "three scales, maps kept", kept=True),
    *(
        _case(variant, f"{count} exposures", partial(_scene, count), scales=1)
        for variant in ("ma2015", "mefnet", "mefnet_cs")
        for count in (1, 3, 5)
    ),
    *(_case(variant, "flat exposure", _flat, scales=1) for variant in ("ma2015", "mefnet")),
)


# For test_compile.py.
COMPILED = {
    "mef_ssim": (lambda x: functional.mef_ssim(x, EXPOSURES), (MASK,)),
    "mef_ssim-color2018": (lambda x: functional.mef_ssim(x, COLOR, "color2018"), (COLOR[:, 0],)),
    "mef_ssim-mefnet": (lambda x: functional.mef_ssim(x, EXPOSURES, "mefnet"), (MASK,)),
}


class TestMefSsim(Conformance):
    operation = "mef_ssim"
    layout_changes_no_bit = False  # around Triton, PyTorch sums planes in the order of memory
    size = (4, 5) if backends.INTERPRETED else Conformance.size
    sizes = ((1, 1), (2, 3)) if backends.INTERPRETED else Conformance.sizes
    cases = (
        _case("ma2015", "one scale, maps kept", scales=1, kept=True, thorough=True),
        _case("mefnet", "maps kept", kept=True, thorough=True),
        *(
            _case(variant, "bright and flat", _bright_flat, scales=1)
            for variant in ("ma2015", "mefnet")
        ),
        *_SMALL_WINDOWS,
        *(() if backends.INTERPRETED else _MORE),
    )


class TestColor2018(Conformance):
    operation = "color2018"
    layout_changes_no_bit = False  # the exposures of a batch may be copied
    sizes = (*Conformance.sizes, (8, 8), (9, 30), (140, 270))
    cases = (
        _case("color2018", "maps kept", partial(_color, 2), kept=True, thorough=True),
        _case("color2018", "bright and flat", _bright_flat_color),
        *(
            _case("color2018", f"{count} exposures", partial(_color, count), thorough=count == 3)
            for count in (1, 3, 9)
        ),
    )


def test_color2018_has_the_same_bits_for_any_number_of_threads() -> None:
    # Rounding to float32 would hide another order of the sums.
    fused, exposures = _color(3, 200, 300)

    def evaluate() -> tuple[Tensor, ...]:
        x = fused.clone().requires_grad_()
        score = functional.mef_ssim(x, exposures, "color2018")
        return score, *torch.autograd.grad(score.sum(), x)

    same_bits_in_threads(evaluate)
