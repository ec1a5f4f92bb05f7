"""Adapt the saturation of a fused base to its exposures by a few descent steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastmef.ops.mef_ssim import STEPS
from fastmef.ops.multiscale import reduce_level
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.filters import window_filter
from fastmef.reference.mef_color2018 import WINDOW, Color2018Sources
from fastmef.reference.pyramid import expand
from fastmef.reference.restoration import move_within_range

COLOR_STEPS, RATE = 3, 0.1
MOMENTUM, SCALE_DECAY, EPSILON = 0.5, 0.9, 4e-4
# The score prefers the colour of the exposure of largest variance in each window, which is often
# one that is paler than the scene. This weight of the mean saturation prevents a paler picture.
SATURATION = 0.18
DARK = 0.02  # In darker pixels saturation is mostly noise.


def refine_color(fused: Tensor, exposures: Tensor) -> Tensor:
    r"""Amplify or damp the colour of every pixel by a few steps of Adam.

    .. math:: F' = Y_F + (1 + s)\,(F - Y_F), \qquad
        L(s) = 1 - Q_\mathrm{color} - 0.18\,\bar S

    Q is MEF-SSIM ``color2018`` and S the HSV saturation, both at half size and in windows of 8
    pixels, because colour is coarse. Luma and hue do not change, grey stays grey, and every channel
    stays within the range of the exposures.

    Args:
        fused: F, ``(1, 3, h, w)``.
        exposures: ``(1, K, 3, h, w)`` in [0, 1].
    """
    sources = STEPS.color2018_sources(reduce_level(exposures, True, None)[0])
    half = reduce_level(fused.unsqueeze(1), True, None)[0].squeeze(1)
    chroma = _chroma(half)
    gray = half - chroma
    gain = torch.zeros_like(half[:, :1])
    mean, second_moment = torch.zeros_like(gain), torch.zeros_like(gain)
    epsilon = EPSILON / gain.numel()
    for step in range(COLOR_STEPS):
        with torch.enable_grad():
            variable = gain.detach().requires_grad_()
            loss = color_loss(sources, gray + (1 + variable) * chroma)
        (grad,) = torch.autograd.grad(loss, variable)
        mean.lerp_(grad, 1 - MOMENTUM)
        second_moment.mul_(SCALE_DECAY).addcmul_(grad, grad, value=1 - SCALE_DECAY)
        unbiased = math.sqrt(1 - SCALE_DECAY ** (step + 1))
        rate = RATE * (1 - step / COLOR_STEPS) / (1 - MOMENTUM ** (step + 1)) * unbiased
        gain.addcdiv_(mean, second_moment.sqrt().add_(epsilon * unbiased), value=-rate)
    change = expand(gain, fused.shape[-2:]) * _chroma(fused)
    return move_within_range(fused, change, exposures)


def color_loss(sources: Color2018Sources, fused: Tensor) -> Tensor:
    """Return the loss of a fused image ``(1, 3, h, w)`` of the size of the sources."""
    saturation = 1 - fused.amin(dim=1) / fused.amax(dim=1).clamp_min(DARK)
    # The windows of the score: pixels at the border count less in both terms.
    saturation = window_filter(saturation, WINDOW, None)
    return 1 - STEPS.color2018_score(sources, fused).sum() - SATURATION * saturation.mean()


def _chroma(images: Tensor) -> Tensor:
    """Return ``(1, 3, h, w)`` without its luma."""
    return images - rgb_to_gray(images).unsqueeze(1)
