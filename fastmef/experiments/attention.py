"""Learn γ with a small network, for a goal other than the loss that it weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastmef.functional import gamma_weights, softmax_fuse, ssim
from fastmef.functional._images import to_luma

PROBE = 0.05
"""Step on the logits in either direction, in units of their mean absolute gradient."""


class AttentionGamma(nn.Module):
    r"""An attribute of γ from attention over the exposures.

    .. math:: A_k(p) = \operatorname{softmax}_k c(I_k, \bar I)(p)

    where c is three convolutions, shared by the exposures, of an exposure and the mean of all.
    Before training, all exposures have the same weight.

    Args:
        width: channels between the convolutions.

    Shape:
        ``(B, K, H, W)`` in [0, 1] → the same, non-negative, summing to 1 over K.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        last = nn.Conv2d(width, 1, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.score = nn.Sequential(
            nn.Conv2d(2, width, 5, padding=2, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2, padding_mode="replicate"),
            nn.ReLU(),
            last,
        )

    def forward(self, planes: Tensor) -> Tensor:
        mean = planes.mean(dim=1, keepdim=True).expand_as(planes)
        scores = self.score(torch.stack((planes, mean), dim=2).flatten(0, 1))
        return scores.unflatten(0, planes.shape[:2]).squeeze(2).softmax(dim=1)


def stopped(gamma: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return γ without gradients, so that the network cannot change the weights of its loss."""

    def attribute(planes: Tensor) -> Tensor:
        with torch.no_grad():
            return gamma(planes)

    return attribute


def outer_loss(
    gamma: nn.Module,
    logits: Tensor,
    exposures: Tensor,
    goal: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    r"""Return a loss whose gradient w.r.t. γ is that of the goal after one descent step.

    A step on the γ-weighted loss :math:`L = 1 - \operatorname{mean} \sum_k \gamma_k S_k` moves the
    logits z to :math:`z - \eta \nabla_z L`. To first order in η the goal G there is

    .. math:: G(z) + \eta \operatorname{mean} \sum_k \gamma_k D_k, \qquad
        D_k = \frac{S_k(z + h u) - S_k(z - h u)}{2 h}, \qquad u = \nabla_z G

    so γ should prefer the exposure whose similarity rises where the goal falls. The loss is
    :math:`\operatorname{mean} \sum_k \gamma_k D_k` divided by the mean of \|D\|. Minimising L
    itself over γ would only prefer the exposure that is already the most similar.

    Args:
        gamma: a module as for :class:`fastmef.nn.WeightedSSIMLoss`.
        logits: ``(B, K, H, W)``.
        exposures: ``(B, K, 3, H, W)``.
        goal: maps fused images ``(B, 3, H, W)`` and the exposures to a value to be minimised.
    """
    leaf = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(goal(softmax_fuse(leaf, exposures), exposures), leaf)
    with torch.no_grad():
        step = PROBE * gradient / gradient.abs().mean().clamp_min(1e-12)
        ahead, behind = (
            _similarities(logits.detach() + sign * step, exposures) for sign in (1, -1)
        )
        slope = ahead - behind
        slope = slope / slope.abs().mean().clamp_min(1e-12)
    weights = gamma_weights(exposures, gamma).squeeze(2)
    return (weights * slope).sum(dim=1).mean()


def _similarities(logits: Tensor, exposures: Tensor) -> Tensor:
    """Return contrast and structure of the fusion against every exposure, ``(B, K, h, w)``."""
    gray = to_luma(exposures, 4)
    fused = to_luma(softmax_fuse(logits, exposures), 3).unsqueeze(1).expand_as(gray)
    return ssim(fused, gray, luminance=False, reduction="none")
