"""Adapt the weights to the photographs at hand by a few descent steps on the unsupervised loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastmef import backends, functional
from fastmef.ops.descent import descent_step
from fastmef.ops.loss import weighted_ssim_gradient, weighted_ssim_loss
from fastmef.ops.mef_ssim import (
    MEF_SSIM,
    STEPS,
    halved,
    ma2015_gradient,
    mefnet_gradients,
)
from fastmef.ops.multiscale import reduce_level
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.descent import Adam, DescentState, GradientPart
from fastmef.reference.loss import LossOptions
from fastmef.reference.mef_ma2015 import WHITE
from fastmef.reference.pyramid import reduce_backward

# Least mean luma of the result, relative to the middle between medium grey and the mean of the
# frames, and the weight of that term. The mean does not depend on the number of frames of a scene,
# the brightness that mefnet favours does: without this term, 3 frames of a scene of high contrast
# give a picture 15 % darker than 30 frames.
DARKEST, BRIGHTNESS = 0.94, 100.0

# Weights of the terms. Small windows replace the finest scale of the score, which is computed at
# full size, where the base is enlarged. Only mefnet depends on brightness.
MA2015 = (1.5, 1.5, 0.2)
STRUCTURE, STRUCTURE_OPTIONS = 3.0, LossOptions(window=5, sigma=1.0)
MEFNET = 0.7
# Colour is coarse, so this term is computed at half the size of the base. Its gradient changes
# slowly, so it is computed in every fifth step only.
COLOR2018, COLOR_STEPS = 2.2, 5

RATE = 0.2
MOMENTUM, SCALE_DECAY = 0.5, 0.9
# Adam's epsilon for the loss times the number of pixels. It prevents 0/0 where nothing has texture;
# the scores do not depend on its size.
EPSILON = 1e-3


class BaseLoss:
    r"""The loss of a fusion of the base of one bracket. Maps of the exposures are computed once.

    .. math:: L = \sum_l \alpha_l\,(1 - Q_l) + 3\,L_\gamma + 0.7\,(1 - l \cdot cs)
        + 2.2\,(1 - Q_\mathrm{color}) + 100 \max\bigl(0, \log(0.94\,T / \bar F)\bigr)^2,
        \qquad T = \tfrac12\Bigl(\tfrac12 + \sum_k s_k \bar J_k / \sum_k s_k\Bigr)

    with the qualities Q of three scales of MEF-SSIM ``ma2015``, the γ-weighted SSIM loss
    :math:`L_\gamma` in windows of 5 pixels, MEF-SSIM ``mefnet``, and ``color2018`` at half size.
    The last term keeps the mean luma :math:`\bar F` of the result from falling far below T, which
    follows from the mean lumas :math:`\bar J_k` of the exposures.

    Args:
        base: J, ``(1, K, 3, h, w)``.
        shares: s, ``(1, K)``.
    """

    def __init__(self, base: Tensor, shares: Tensor) -> None:
        self._base, self._gray = base, rgb_to_gray(base)
        means = self._gray.mean(dim=(-2, -1))
        self._darkest = DARKEST / 2 * (0.5 + (shares * means).sum() / shares.sum())
        self._ma2015 = STEPS.ma2015_sources(self._gray, len(MA2015))
        self._mefnet = STEPS.mefnet_sources(self._gray)
        self._slopes = -base.new_tensor(MA2015)[None]
        self._structure_slope = base.new_tensor(STRUCTURE)
        self._color2018 = STEPS.color2018_sources(reduce_level(base, True, None)[0])

    def luma(self, gray: Tensor) -> Tensor:
        """Return the loss of a fusion with luma ``(1, h, w)``, without the colour term."""
        qualities, luminance, structure, difference = self._terms(gray)
        loss = STRUCTURE * difference
        loss = loss + ((1 - qualities) * qualities.new_tensor(MA2015)).sum()
        missing = (self._darkest / gray.mean().clamp_min(EPSILON)).log().clamp_min(0)
        return loss + MEFNET * (1 - (luminance * structure).sum()) + BRIGHTNESS * missing.square()

    def _terms(self, gray: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Q ``(1, 3)``, l ``(1,)``, cs ``(1,)`` and the γ-weighted SSIM loss."""
        qualities = STEPS.ma2015_qualities(self._ma2015, gray)
        luminance, structure = STEPS.mefnet_factors(self._mefnet, gray)
        difference = weighted_ssim_loss(gray, self._gray, None, "mean", STRUCTURE_OPTIONS, (1.0,))
        return qualities, luminance, structure, difference

    def fused_luma(self, logits: Tensor) -> Tensor:
        """Return the luma of the fusion, ``(1, h, w)``."""
        return functional.softmax_fuse(logits, self._gray.unsqueeze(2))[:, 0]

    def color(self, fused: Tensor) -> Tensor:
        """Return the colour term of ``fused`` ``(1, 3, h, w)``."""
        return self._half_color(_halved_color(fused))

    def _half_color(self, half: Tensor) -> Tensor:
        """Return the colour term of a fused image at half size, ``(1, 3, ⌈h/2⌉, ⌈w/2⌉)``."""
        return COLOR2018 * (1 - STEPS.color2018_score(self._color2018, half).sum())

    def linearized(self, logits: Tensor) -> Tensor:
        """Return luma and the linear colour term of every exposure, ``(1, K, 2, h, w)``.

        Luma and a linear function of colour are weighted sums over the exposures, as the fused
        image is. A step therefore fuses two planes of each exposure instead of three.
        """
        fused = functional.softmax_fuse(logits, self._base)
        with torch.enable_grad():
            half = _halved_color(fused.detach()).requires_grad_()
            grad_half = torch.autograd.grad(self._half_color(half), half)[0]
        slope = reduce_backward(grad_half, fused.shape[-2:])
        return torch.stack((self._gray, (self._base * slope.unsqueeze(1)).sum(dim=2)), dim=2)

    def luma_gradient(self, gray: Tensor) -> tuple[list[GradientPart], float]:
        """Return the gradient of :meth:`luma` w.r.t. ``gray``: the sum of parts and a constant."""
        mean = gray.mean().clamp_min(EPSILON)
        # d/dmean of BRIGHTNESS log(darkest / mean)², which is zero above darkest.
        missing = (self._darkest / mean).log_().clamp_min_(0)
        pull = missing.div_(mean).mul_(-2 * BRIGHTNESS / gray.numel())
        if MEF_SSIM.backend(gray, self._gray) != backends.CPP:
            return [GradientPart(self._autograd(gray).add_(pull))], 0.0
        # Autograd would take as long as the kernels.
        parts, image = [], WHITE * gray
        for scale, (level, weight) in enumerate(zip(self._ma2015, MA2015, strict=True)):
            image = halved(image) if scale else image
            parts.append(GradientPart(ma2015_gradient(level, image), -WHITE * weight, scale))
        luminance, structure, *gradients = mefnet_gradients(self._mefnet, gray)
        for gradient, other in zip(gradients, (structure, luminance), strict=True):
            parts.append(GradientPart(gradient, -MEFNET * float(other)))
        difference = weighted_ssim_gradient(gray, self._gray, STRUCTURE_OPTIONS)
        parts.append(GradientPart(difference, STRUCTURE))
        return parts, float(pull)

    def _autograd(self, gray: Tensor) -> Tensor:
        """Return the gradient of all terms of :meth:`luma` but brightness."""
        with torch.enable_grad():
            variable = gray.detach().requires_grad_()
            qualities, luminance, structure, difference = self._terms(variable)
        slopes = -MEFNET * structure.detach(), -MEFNET * luminance.detach()
        outputs = (qualities, luminance, structure, difference)
        grads = (self._slopes, *slopes, self._structure_slope)
        return torch.autograd.grad(outputs, variable, grads)[0]


def _halved_color(fused: Tensor) -> Tensor:
    """Halve ``(1, 3, h, w)``, see :func:`fastmef.reference.pyramid.reduce`."""
    return reduce_level(fused.unsqueeze(1), True, None)[0].squeeze(1)


def refine_logits(logits: Tensor, base: Tensor, shares: Tensor, steps: int) -> Tensor:
    r"""Lower the unsupervised loss of one bracket, starting from the network's logits.

    The loss :class:`BaseLoss` needs no ground truth, so the descent can continue where training
    stopped, on the photographs at hand: ``steps`` steps of Adam (Kingma, Ba, 2015) on every
    pixel's logits, with a rate that falls linearly to zero. The weights remain a softmax over the
    exposures.

    Args:
        logits: ``(1, K, h, w)``.
        base: ``(1, K, 3, h, w)`` in [0, 1].
        shares: ``(1, K)``; see :func:`fastmef.functional.exposure_shares`.
        steps: ≥ 0; 0 returns the logits.

    Returns:
        ``(1, K, h, w)``.
    """
    if not steps:
        return logits
    loss = BaseLoss(base, shares)
    pixels = base.shape[-2] * base.shape[-1]
    refined = logits.clone(memory_format=torch.contiguous_format)
    state = DescentState(refined, torch.zeros_like(refined), torch.zeros_like(refined))
    gray = loss.fused_luma(refined)
    planes = torch.empty(0)
    for step in range(steps):
        if step % COLOR_STEPS == 0:
            planes = loss.linearized(refined)
        # The bias correction of Adam's second moment is a factor of the rate and of epsilon.
        unbiased = math.sqrt(1 - SCALE_DECAY ** (step + 1))
        rate = RATE * (1 - step / steps) / (1 - MOMENTUM ** (step + 1)) * unbiased
        adam = Adam(MOMENTUM, SCALE_DECAY, rate, EPSILON / pixels * unbiased)
        gray = descent_step(state, planes, *loss.luma_gradient(gray), adam)
    return refined
