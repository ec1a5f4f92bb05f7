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
    """What a step updates in place; all tensors are ``(1, K, H, W)``."""

    logits: Tensor
    mean: Tensor
    """The moving average of the gradients."""
    second_moment: Tensor
    """The moving average of their squares."""


@torch.no_grad()
def descent_step(
    state: DescentState,
    planes: Tensor,
    parts: Sequence[GradientPart],
    constant: float,
    adam: Adam,
) -> Tensor:
    r"""Update the logits z of a fusion :math:`\sum_k w_k J_k`, w = softmax(z), and return its luma.

    With the luma :math:`Y_k` and a term :math:`C_k` of every exposure, the loss is
    :math:`L(\sum_k w_k Y_k) + \sum_k w_k C_k`. From g, the gradient of L,

    .. math:: d_k = g\,Y_k + C_k, \quad h_k = w_k \Bigl(d_k - \sum_j w_j d_j\Bigr), \quad
        m_k \gets \beta_1 m_k + (1 - \beta_1) h_k, \quad v_k \gets \beta_2 v_k + (1 - \beta_2) h_k^2

    .. math:: z_k \gets z_k - \eta \frac{m_k}{\sqrt{v_k} + \varepsilon}

    with :math:`\beta_1` the momentum, :math:`\beta_2` the decay and :math:`\eta` the rate.

    Args:
        state: the logits and the moments; updated in place.
        planes: Y and C, ``(1, K, 2, H, W)``.
        parts: their sum plus ``constant`` is g.

    Returns:
        the luma of the fusion with the new logits, ``(1, H, W)``.

    Source: D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """
    logits, mean, second_moment = state
    luma, linear = planes.unbind(dim=2)
    weights = logits.softmax(dim=1)
    slopes = _sum_of_parts(parts, luma[:, 0]).add_(constant).unsqueeze(1) * luma + linear
    grad = weights * (slopes - (weights * slopes).sum(dim=1, keepdim=True))
    mean.lerp_(grad, 1 - adam.momentum)
    second_moment.mul_(adam.decay).addcmul_(grad, grad, value=1 - adam.decay)
    logits.addcdiv_(mean, second_moment.sqrt().add_(adam.epsilon), value=-adam.rate)
    return (logits.softmax(dim=1) * luma).sum(dim=1)


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
