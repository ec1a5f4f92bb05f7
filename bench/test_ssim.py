"""Time mean ssim of fastmef and other packages, alone and with its gradient w.r.t. the first image.

Competitors keep their own border and are compared with the reference for the same border.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.competitors import Competitor, competitors
from fastmef import functional, reference

SIZES = {"8x250x250": (8, 250, 250), "1x1080x1920": (1, 1080, 1920)}
Ssim = Callable[[Tensor, Tensor], Tensor]
Run = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def runner(function: Ssim, with_gradient: bool) -> Run:
    def run(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        if not with_gradient:
            with torch.no_grad():
                return (function(a, b),)
        x = a.detach().requires_grad_()
        value = function(x, b)
        return value.detach(), *torch.autograd.grad(value, x)

    return run


MODES = {"value": False, "value and gradient": True}


def entrants(mode: str) -> dict[str, Competitor]:
    """Return the competitors for a mode: all, or those that compute the gradient too."""
    if mode == "value":
        return competitors("ssim")
    own_gradient = competitors("ssim, value and gradient")
    return {**own_gradient, **{x.name: x for x in competitors("ssim").values() if x.gradient}}


SLOW = [x.name for x in competitors("ssim").values() if x.small_only]
# Compiled functions are timed with their gradient only.
CASES = [
    (name, size, mode)
    for mode in MODES
    for size in SIZES
    for name in ("fastmef", "eager", "torch.compile", *entrants(mode))
    if name != "torch.compile" or mode != "value"
    if size == "8x250x250" or mode == "value" or name not in SLOW
]


@pytest.mark.parametrize("name, size, mode", CASES)
def test_ssim(
    clock: Callable[..., None],
    photograph: Callable[..., Tensor],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    once: Callable[..., Any],
    name: str,
    size: str,
    mode: str,
) -> None:
    a = photograph(*SIZES[size])
    b = 0.8 * a + 0.2 * photograph(*SIZES[size], seed=1)
    border, margin = "valid", 0
    if name in entrants(mode):
        entrant = entrants(mode)[name]
        border, margin = entrant.border, entrant.margin
        function = entrant.load()
        run = function if entrant.op != "ssim" else runner(function, MODES[mode])
    else:
        ours = {"fastmef": functional.ssim, "eager": reference.ssim}
        run = runner(ours.get(name) or compiled(reference.ssim), MODES[mode])
    reference_run = runner(lambda x, y: reference.ssim(x, y, border=border), MODES[mode])
    exact = once(("ssim", size, mode, border), lambda: reference_run(a.double(), b.double()))
    check(run(a, b), exact, name, margin)
    clock(lambda: run(a, b), "ssim", f"{size}, {mode}", name)
