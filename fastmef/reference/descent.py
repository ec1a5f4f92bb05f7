"""One step of Adam on the logits of a small fusion, given the gradient w.r.t. its luma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastmef.reference.filters import halve


class GradientPart(NamedTuple):
    """A part of the gradient w.r.t. an image."""

    gradient: Tensor
    """``(1, h, w)``, the gradient w.r.t. the image after ``halvings``."""
    factor: float = 1.0
    """The factor of this part in the sum."""
    halvings: int = 0
    """How often :func:`~fastmef.reference.filters.halve` was applied to the image."""


class Adam(NamedTuple):
    """The numbers of one step of Adam, after the corrections of its bias."""

    momentum: float
    decay: float
    rate: float
    epsilon: float


class DescentState(NamedTuple):
    """What a step updates in place; all tensors but the last are ``(1, K, H, W)``."""

    logits: Tensor
    mean: Tensor
    """The moving average of the gradients."""
    second_moment: Tensor
    """The moving average of their squares."""
    luma: Tensor
    """The luma of the fusion with the logits, ``(1, H, W)``; it is not read."""


@torch.no_grad()
def descent_step(
    state: DescentState,
    exposures: Tensor,
    parts: Sequence[GradientPart],
    constant: float,
    adam: Adam,
) -> None:
    r"""Update the logits z of a fusion :math:`F = \sum_k w_k Y_k`, w = softmax(z).

    From g, the gradient of the loss w.r.t. F,

    .. math:: h_k = g\,w_k (Y_k - F), \quad
        m_k \gets \beta_1 m_k + (1 - \beta_1) h_k, \quad v_k \gets \beta_2 v_k + (1 - \beta_2) h_k^2

    .. math:: z_k \gets z_k - \eta \frac{m_k}{\sqrt{v_k} + \varepsilon}

    with :math:`\beta_1` the momentum, :math:`\beta_2` the decay and :math:`\eta` the rate.

    Args:
        state: updated in place.
        exposures: their luma Y, ``(1, K, H, W)``.
        parts: their sum plus ``constant`` is g.

    Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """
    logits, mean, second_moment, fused = state
    weights = logits.softmax(dim=1)
    slope = _sum_of_parts(parts, exposures[:, 0]).add_(constant).unsqueeze(1)
    grad = weights * slope * (exposures - (weights * exposures).sum(dim=1, keepdim=True))
    mean.lerp_(grad, 1 - adam.momentum)
    second_moment.mul_(adam.decay).addcmul_(grad, grad, value=1 - adam.decay)
    logits.addcdiv_(mean, second_moment.sqrt().add_(adam.epsilon), value=-adam.rate)
    torch.sum(logits.softmax(dim=1) * exposures, dim=1, out=fused)


def _sum_of_parts(parts: Sequence[GradientPart], like: Tensor) -> Tensor:
    """Return the gradient w.r.t. an image like ``like``, ``(1, H, W)``."""
    total = torch.zeros_like(like)
    with torch.enable_grad():
        for gradient, factor, halvings in parts:
            if not halvings:
                total.add_(gradient * factor)
                continue
            image = torch.zeros_like(like, requires_grad=True)
            halved = image
            for _ in range(halvings):
                halved = halve(halved)
            total.add_(torch.autograd.grad(halved, image, gradient * factor)[0])
    return total
