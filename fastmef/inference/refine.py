"""The weights of these very photographs: a few descent steps on the training loss itself."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import functional
from fastmef.reference.color import rgb_to_gray

SCALES = (0.4, 0.35, 0.25)  # as in training
RATE = 0.02
MOMENTUM, SCALE_DECAY = 0.5, 0.9
EPSILON = 1e-3  # Adam's: no 0/0 where nothing has texture. The scores do not depend on its size.


def refine_logits(logits: Tensor, exposures: Tensor, steps: int) -> Tensor:
    r"""Lower the unsupervised fusion loss of one bracket, starting from the network's logits.

    The loss needs no ground truth, so it can go on where training stopped, on the photographs at
    hand: ``steps`` steps of Adam (Kingma, Ba, 2015) on every pixel's logits, with a rate that
    falls linearly to zero, of :func:`fastmef.functional.fusion_loss` over three scales. The result
    is still a softmax over the exposures.

    Args:
        logits: ``(1, K, H, W)``.
        exposures: ``(1, K, 3, H, W)`` in [0, 1].
        steps: ≥ 0; 0 returns the logits.

    Returns:
        ``(1, K, H, W)``.
    """
    gray = rgb_to_gray(exposures)
    pixels = gray.shape[-2] * gray.shape[-1]
    mean, power = torch.zeros_like(logits), torch.zeros_like(logits)
    refined = logits.clone()
    for step in range(steps):
        gradient = pixels * _gradient(refined, gray)
        mean.lerp_(gradient, 1 - MOMENTUM)
        power.lerp_(gradient.square_(), 1 - SCALE_DECAY)
        rate = RATE * (1 - step / steps) / (1 - MOMENTUM ** (step + 1))
        scale = (power / (1 - SCALE_DECAY ** (step + 1))).sqrt_().add_(EPSILON)
        refined.addcdiv_(mean, scale, value=-rate)
    return refined


def _gradient(logits: Tensor, gray: Tensor) -> Tensor:
    with torch.enable_grad():
        variable = logits.detach().requires_grad_()
        loss = functional.fusion_loss(variable, gray, scales=SCALES)
        return torch.autograd.grad(loss, variable)[0]
