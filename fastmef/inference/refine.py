"""Adapt the weights to the photographs at hand by a few descent steps on the unsupervised loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastmef import backends, functional
from fastmef.ops import mef_ssim as ops
from fastmef.ops.common.prepared import Prepared
from fastmef.ops.descent import descent_step
from fastmef.ops.mef_ssim import MEF_SSIM, STEPS
from fastmef.ops.mef_ssim_kernels import prepare_halve, prepare_quality
from fastmef.ops.multiscale import reduce_level
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.descent import Adam, DescentState, GradientPart
from fastmef.reference.mef_ma2015 import WHITE
from fastmef.reference.mef_mefnet import C1, desired_luminance
from fastmef.reference.pyramid import expand, halved_size

# Least mean luma of the result, relative to the middle between medium grey and the mean of the
# frames, and the weight of that term. The mean does not depend on the number of frames of a scene,
# the brightness that the luminance term favours does: without this term, 3 frames of a scene of
# high contrast give a picture 15 % darker than 30 frames.
DARKEST, BRIGHTNESS = 0.95, 100.0
# Least and largest mean luma relative to that of the network's fusion.
CHANGE = 0.955, 1.08

# Window and sigma at the size of the base. The finest scale of the score is computed at full size,
# where the base is enlarged, so that the score's windows cover a few pixels of the base.
SMALL_WINDOW = 5, 1.2

MOMENTUM, SCALE_DECAY = 0.5, 0.9
# Adam's epsilon for the loss times the number of pixels. It prevents 0/0 where nothing has texture;
# the scores do not depend on its size.
EPSILON = 1e-3

# Least weight of an exposure at the start of the coarse descent, for finite logits.
LEAST_WEIGHT = 1e-6


class Terms(NamedTuple):
    """Weights of the terms of the loss."""

    ma2015: tuple[float, ...]
    """Of the scales, finest first."""
    luminance: float


class Descent(NamedTuple):
    """The options of a descent."""

    terms: Terms
    rate: float
    """Adam's rate of the first step. It falls linearly to zero."""


FINE = Descent(Terms((12.0, 3.3, 0.4), 3.0), rate=0.2)
# The brightness of large areas needs many steps of single pixels. It is found before them, in few
# pixels, by steps that are less than a tenth of the work.
COARSE = Descent(Terms((3.0, 1.7, 0.2), 4.0), rate=0.1)
COARSE_HALVINGS, COARSE_STEPS = 2, 20


Bounds = tuple[Tensor, Tensor]


class BaseLoss:
    r"""The loss of a fusion of the base of one bracket. Maps of the exposures are computed once.

    .. math:: L = \sum_l \alpha_l\,(1 - Q_l)
        + \alpha_\lambda \Bigl(1 - \operatorname{mean}
        \frac{2 F \lambda + C_1}{F^2 + \lambda^2 + C_1}\Bigr)
        + 100 \log^2 \frac{\bar F}{\min(\max(\bar F, a), b)}

    with the qualities Q of three scales of MEF-SSIM ``ma2015``, the first in windows of 5 pixels
    with :math:`\sigma = 1.2`, and the luminance :math:`\lambda` that MEF-SSIM ``mefnet`` desires
    of a single pixel (:func:`~fastmef.reference.mef_mefnet.desired_luminance`). The last term keeps
    the mean luma :math:`\bar F` of the result between a and b.

    Args:
        gray: Y, ``(1, K, h, w)``.
        bounds: a and b; see :func:`brightness_bounds`.
        terms: :math:`\alpha`.
    """

    def __init__(self, gray: Tensor, bounds: Bounds, terms: Terms = FINE.terms) -> None:
        self.gray, self.bounds, self.terms = gray, bounds, terms
        means = gray.mean(dim=(-2, -1), keepdim=True)
        self.ma2015 = [ops.ma2015_level(WHITE * gray, *SMALL_WINDOW)]
        self.ma2015 += STEPS.ma2015_sources(ops.halved(gray), len(terms.ma2015) - 1)
        self.desired = desired_luminance(gray, means)
        self._denominator = self.desired.square() + C1

    def value(self, luma: Tensor) -> Tensor:
        """Return the loss of a fusion with luma ``(1, h, w)``."""
        mean = luma.mean().clamp_min(EPSILON)
        loss = BRIGHTNESS * (mean / mean.clamp(*self.bounds)).log().square()
        loss = loss + self.terms.luminance * (1 - self.luminance(luma).mean())
        qualities = self._qualities(luma)
        return loss + ((1 - qualities) * qualities.new_tensor(self.terms.ma2015)).sum()

    def luminance(self, luma: Tensor) -> Tensor:
        """Return the luminance factor of every pixel, ``(1, h, w)``."""
        return (2 * luma * self.desired + C1) / (luma.square() + self._denominator)

    def luminance_gradient(self, luma: Tensor, out: Tensor) -> None:
        """Write the derivative of the sum of :meth:`luminance` w.r.t. luma into ``out``."""
        inverse = torch.mul(luma, luma).add_(self._denominator).reciprocal_()
        torch.mul(luma, self.desired, out=out).mul_(2).add_(C1).mul_(inverse)
        torch.addcmul(self.desired, luma, out, value=-1, out=out).mul_(inverse).mul_(2)

    def qualities_gradient(self, luma: Tensor) -> Tensor:
        """Return the gradient of the terms of ma2015, by autograd."""
        with torch.enable_grad():
            variable = luma.detach().requires_grad_()
            qualities = self._qualities(variable)
        grad_qualities = -qualities.new_tensor(self.terms.ma2015)
        return torch.autograd.grad(qualities, variable, grad_qualities)[0]

    def _qualities(self, luma: Tensor) -> Tensor:
        """Return the qualities of all scales."""
        finest, *others = self.ma2015
        quality = ops.ma2015_quality(finest, WHITE * luma, *SMALL_WINDOW)
        return torch.cat((quality, STEPS.ma2015_qualities(others, ops.halved(luma))[0]))


class LossGradient:
    """The gradient of :class:`BaseLoss` w.r.t. the luma of a fusion, whose values may change.

    On the CPU the calls of the kernels are prepared once; autograd would take as long as they do.

    Args:
        luma: ``(1, h, w)``, contiguous.
    """

    def __init__(self, loss: BaseLoss, luma: Tensor) -> None:
        self._loss, self._luma = loss, luma
        self._calls: list[Prepared] = []
        self._parts: list[GradientPart] = []
        self._luminance = torch.empty_like(luma)
        self._prepared = MEF_SSIM.backend(luma) == backends.CPP
        if self._prepared:
            self._prepare(loss, luma)

    def __call__(self) -> tuple[list[GradientPart], float]:
        """Return parts of the gradient and a constant; their sum is the gradient."""
        loss, luma = self._loss, self._luma
        loss.luminance_gradient(luma, self._luminance)
        factor = -loss.terms.luminance / luma.numel()
        parts = [GradientPart(self._luminance, factor), *self._parts]
        if self._prepared:
            torch.mul(luma, WHITE, out=self._image)
            for call in self._calls:
                call.call()
        else:
            parts.append(GradientPart(loss.qualities_gradient(luma)))
        return parts, float(self._pull())

    def _pull(self) -> Tensor:
        """Return the derivative of the term of brightness w.r.t. a pixel."""
        mean = self._luma.mean().clamp_min(EPSILON)
        excess = (mean / mean.clamp(*self._loss.bounds)).log_()
        return excess.div_(mean).mul_(2 * BRIGHTNESS / self._luma.numel())

    def _prepare(self, loss: BaseLoss, luma: Tensor) -> None:
        self._image = image = torch.empty_like(luma)
        for scale, (level, weight) in enumerate(zip(loss.ma2015, loss.terms.ma2015, strict=True)):
            if scale:
                self._calls.append(prepare_halve(image))
                image = self._calls[-1].results[0]
            window = () if scale else SMALL_WINDOW
            self._calls.append(prepare_quality(*level, image, True, *window))
            gradient = self._calls[-1].results[1]
            self._parts.append(GradientPart(gradient, -WHITE * weight, scale))


def refine_logits(logits: Tensor, base: Tensor, shares: Tensor, steps: int) -> Tensor:
    r"""Lower the unsupervised loss of one bracket, starting from the network's logits.

    The loss :class:`BaseLoss` needs no ground truth, so the descent can continue where training
    stopped, on the photographs at hand: ``steps`` steps of Adam (Kingma, Ba, 2015) on every
    pixel's logits, with a rate that falls linearly to zero, after as many (at most 20) at a quarter
    of the width and height. The weights remain a softmax over the exposures.

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
    gray = rgb_to_gray(base)
    bounds = brightness_bounds(logits, gray, shares)
    refined = logits + _coarse_change(logits, gray, bounds, min(steps, COARSE_STEPS))
    return _descend(refined, gray, bounds, steps, FINE)


def brightness_bounds(logits: Tensor, gray: Tensor, shares: Tensor) -> Bounds:
    r"""Return the least and the largest mean luma of the result.

    .. math:: a = \max(0.95\,T, 0.955\,N), \quad b = \max(a, 1.08\,N), \qquad
        T = \tfrac12\Bigl(\tfrac12 + \sum_k s_k \bar Y_k / \sum_k s_k\Bigr)

    with the mean luma N of the network's fusion, and :math:`\bar Y_k` of the exposures. T does not
    depend on the number of frames of a scene.
    """
    means = gray.mean(dim=(-2, -1))
    target = (0.5 + (shares * means).sum() / shares.sum()) / 2
    before = fused_luma(logits, gray).mean()
    lowest = torch.maximum(DARKEST * target, CHANGE[0] * before)
    return lowest, torch.maximum(lowest, CHANGE[1] * before)


def fused_luma(logits: Tensor, gray: Tensor) -> Tensor:
    """Return the luma of the fusion, ``(1, h, w)``."""
    return functional.softmax_fuse(logits, gray.unsqueeze(2))[:, 0].contiguous()


def _coarse_change(logits: Tensor, gray: Tensor, bounds: Bounds, steps: int) -> Tensor:
    """Return the change of the logits that a descent on a small image of the base makes."""
    weights = logits.softmax(dim=1)
    for _ in range(COARSE_HALVINGS):
        gray, weights = _halved(gray), _halved(weights)
    start = weights.clamp_min(LEAST_WEIGHT).log()
    change = _descend(start, gray, bounds, steps, COARSE) - start
    for halvings in reversed(range(COARSE_HALVINGS)):
        change = expand(change, halved_size(logits.shape[-2:], halvings))
    return change


def _halved(planes: Tensor) -> Tensor:
    """Halve ``(1, K, h, w)``, see :func:`fastmef.reference.pyramid.reduce`."""
    return reduce_level(planes.unsqueeze(2), True, None)[0].squeeze(2)


def _descend(logits: Tensor, gray: Tensor, bounds: Bounds, steps: int, options: Descent) -> Tensor:
    """Return the logits after ``steps`` steps, for exposures of luma ``gray`` ``(1, K, h, w)``."""
    loss = BaseLoss(gray, bounds, options.terms)
    pixels = gray.shape[-2] * gray.shape[-1]
    refined = logits.clone(memory_format=torch.contiguous_format)
    moments = torch.zeros_like(refined), torch.zeros_like(refined)
    state = DescentState(refined, *moments, fused_luma(refined, gray))
    gradient = LossGradient(loss, state.luma)
    for step in range(steps):
        # The bias correction of Adam's second moment is a factor of the rate and of epsilon.
        unbiased = math.sqrt(1 - SCALE_DECAY ** (step + 1))
        rate = options.rate * (1 - step / steps) / (1 - MOMENTUM ** (step + 1)) * unbiased
        adam = Adam(MOMENTUM, SCALE_DECAY, rate, EPSILON / pixels * unbiased)
        descent_step(state, gray, *gradient(), adam)
    return refined
