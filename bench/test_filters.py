"""Time local_variance, sobel_gradient and gamma_weights, alone and with their gradient.

Variances have mirrored borders and Sobel gradients replicated ones, as with every competitor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.competitors import competitors
from fastmef import functional, reference

SIZES = {"8x250x250": (8, 250, 250), "1x1080x1920": (1, 1080, 1920)}
Filter = Callable[[Tensor], Tensor]

# Name of the operation in the tables → function and options.
OPS: dict[str, tuple[str, dict[str, Any]]] = {
    "local_variance, Gaussian 11": ("local_variance", {"border": "reflect"}),
    "local_variance, box 11": ("local_variance", {"border": "reflect", "sigma": None}),
    "sobel_gradient": ("sobel_gradient", {}),
    "gamma_weights, 2 exposures": ("gamma_weights", {}),
}


OURS = ["fastmef", "eager", "torch.compile"]
# Compiled functions are timed with their gradient only.
CASES = [
    (op, mode, name)
    for op in OPS
    for mode, names in (
        ("value", ["fastmef", "eager", *competitors(op)]),
        ("value and gradient", [*OURS, *(x.name for x in competitors(op).values() if x.gradient)]),
    )
    for name in names
    if not (op == "local_variance, box 11" and name == "torch.compile")
]


def runner(function: Filter, mode: str) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        if mode == "value":
            with torch.no_grad():
                return (function(images),)
        x = images.detach().requires_grad_()
        value = function(x)
        return value.detach(), *torch.autograd.grad(value, x, value.detach())

    return run


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("op, mode, name", CASES)
def test_filter(
    clock: Callable[..., None],
    photograph: Callable[..., Tensor],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    once: Callable[..., Any],
    op: str,
    mode: str,
    name: str,
    size: str,
) -> None:
    function, options = OPS[op]
    batch, height, width = SIZES[size]
    if function == "gamma_weights":
        images = photograph(batch, 2, height, width)
    else:
        images = photograph(batch, height, width)
    exact = getattr(reference, function)
    if name in competitors(op):
        run = runner(competitors(op)[name].load(), mode)
    elif name == "fastmef":
        run = runner(lambda x: getattr(functional, function)(x, **options), mode)
    else:
        eager = lambda x: exact(x, **options)  # noqa: E731
        run = runner(compiled(eager) if name == "torch.compile" else eager, mode)
    exact_run = runner(lambda x: exact(x, **options), mode)
    check(run(images), once((op, size, mode), lambda: exact_run(images.double())), name)
    clock(lambda: run(images), op, f"{size}, {mode}", name)
