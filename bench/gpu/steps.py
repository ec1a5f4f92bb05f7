"""Names of groups, steps with gradient and their comparison, for the benchmarks of losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHAPES = [(8, 250, 250), (1, 1080, 1920), (1, 2160, 3840)]
EXPOSURES = 2
Step = Callable[..., tuple[Tensor, Tensor]]


def label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def loss_group(loss: str, shape: tuple[int, ...]) -> str:
    return f"{loss}, {label(shape)}, 1 scale"


def ssim_group(shape: tuple[int, ...]) -> str:
    return f"mean ssim with gradient, {label(shape)}"


def with_gradient(function: Callable[..., Tensor]) -> Step:
    """Return a function that computes the value and its gradient w.r.t. the first argument."""

    def both(first: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        first = first.detach().requires_grad_()
        value = function(first, *others)
        return value.detach(), torch.autograd.grad(value.sum(), first)[0]

    return both


def check(step: Step, plain: Callable[..., Tensor], *images: Tensor) -> None:
    """Compare value and gradient of a step with those of ``plain`` in float64."""
    value, gradient = step(*images)
    exact, exact_gradient = with_gradient(plain)(*(x.double() for x in images))
    assert (value - exact).abs().max() <= 1e-5
    assert (gradient - exact_gradient).abs().max() <= 1e-3 * exact_gradient.abs().max()
