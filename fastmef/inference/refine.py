"""Adapt the weights to the photographs at hand by a few descent steps on the unsupervised loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastmef import backends, functional
from fastmef.ops.common.prepared import Prepared
from fastmef.ops.descent import descent_step
from fastmef.ops.loss import weighted_ssim_loss
from fastmef.ops.loss_kernels import prepare_loss
from fastmef.ops.mef_ssim import MEF_SSIM, STEPS
from fastmef.ops.mef_ssim_kernels import prepare_halve, prepare_mefnet_factors, prepare_quality
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
DARKEST, BRIGHTNESS = 0.95, 100.0

# Weights of the terms. Small windows replace the finest scale of the score, which is computed at
# full size, where the base is enlarged. Only mefnet depends on brightness.
MA2015 = (1.5, 1.5, 0.2)
STRUCTURE, STRUCTURE_OPTIONS = 3.0, LossOptions(window=5, sigma=1.0)
MEFNET = 0.7
# Colour is coarse, so this term is computed at half the size of the base. Its gradient changes
# slowly, so it is computed in every fifth step only.
COLOR2018, COLOR_STEPS = 2.6, 5

RATE = 0.2
MOMENTUM, SCALE_DECAY = 0.5, 0.9
# Adam's epsilon for the loss times the number of pixels. It prevents 0/0 where nothing has texture;
# the scores do not depend on its size.
EPSILON = 1e-3


class BaseLoss:
    r"""The loss of a fusion of the base of one bracket. Maps of the exposures are computed once.

    .. math:: L = \sum_l \alpha_l\,(1 - Q_l) + 3\,L_\gamma + 0.7\,(1 - l \cdot cs)
        + 2.6\,(1 - Q_\mathrm{color}) + 100 \max\bigl(0, \log(0.95\,T / \bar F)\bigr)^2,
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
        self._base, self.gray = base, rgb_to_gray(base)
        means = self.gray.mean(dim=(-2, -1))
        self.darkest = DARKEST / 2 * (0.5 + (shares * means).sum() / shares.sum())
        self.ma2015 = STEPS.ma2015_sources(self.gray, len(MA2015))
        self.mefnet = STEPS.mefnet_sources(self.gray)
        self._slopes = -base.new_tensor(MA2015)[None]
        self._structure_slope = base.new_tensor(STRUCTURE)
        self._color2018 = STEPS.color2018_sources(reduce_level(base, True, None)[0])

    def luma(self, gray: Tensor) -> Tensor:
        """Return the loss of a fusion with luma ``(1, h, w)``, without the colour term."""
        qualities, luminance, structure, difference = self._terms(gray)
        loss = STRUCTURE * difference
        loss = loss + ((1 - qualities) * qualities.new_tensor(MA2015)).sum()
        missing = (self.darkest / gray.mean().clamp_min(EPSILON)).log().clamp_min(0)
        return loss + MEFNET * (1 - (luminance * structure).sum()) + BRIGHTNESS * missing.square()

    def _terms(self, gray: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Q ``(1, 3)``, l ``(1,)``, cs ``(1,)`` and the γ-weighted SSIM loss."""
        qualities = STEPS.ma2015_qualities(self.ma2015, gray)
        luminance, structure = STEPS.mefnet_factors(self.mefnet, gray)
        difference = weighted_ssim_loss(gray, self.gray, None, "mean", STRUCTURE_OPTIONS, (1.0,))
        return qualities, luminance, structure, difference

    def fused_luma(self, logits: Tensor) -> Tensor:
        """Return the luma of the fusion, ``(1, h, w)``."""
        return functional.softmax_fuse(logits, self.gray.unsqueeze(2))[:, 0]

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
        return torch.stack((self.gray, (self._base * slope.unsqueeze(1)).sum(dim=2)), dim=2)

    def luma_gradient(self, gray: Tensor) -> Tensor:
        """Return the gradient of all terms of :meth:`luma` but brightness, by autograd."""
        with torch.enable_grad():
            variable = gray.detach().requires_grad_()
            qualities, luminance, structure, difference = self._terms(variable)
        slopes = -MEFNET * structure.detach(), -MEFNET * luminance.detach()
        outputs = (qualities, luminance, structure, difference)
        grads = (self._slopes, *slopes, self._structure_slope)
        return torch.autograd.grad(outputs, variable, grads)[0]


class LumaGradient:
    """The gradient of :meth:`BaseLoss.luma` w.r.t. the luma of a fusion, whose values may change.

    On the CPU the calls of the kernels are prepared once; autograd would take as long as they do.

    Args:
        luma: ``(1, h, w)``, contiguous.
    """

    def __init__(self, loss: BaseLoss, luma: Tensor) -> None:
        self._loss, self._luma = loss, luma
        self._prepared = MEF_SSIM.backend(luma) == backends.CPP
        if self._prepared:
            self._prepare(loss, luma)

    def __call__(self) -> tuple[list[GradientPart], float]:
        """Return parts of the gradient and a constant; their sum is the gradient."""
        pull = self._pull()
        if not self._prepared:
            return [GradientPart(self._loss.luma_gradient(self._luma).add_(pull))], 0.0
        torch.mul(self._luma, WHITE, out=self._image)
        for call in self._calls:
            call.call()
        luminance, structure = (float(x) for x in self._mefnet.results[:2])
        factors = -MEFNET * structure, -MEFNET * luminance
        pairs = zip(self._mefnet.results[2:], factors, strict=True)
        return [*self._parts, *(GradientPart(*pair) for pair in pairs)], float(pull)

    def _pull(self) -> Tensor:
        """Return the derivative of BRIGHTNESS log(darkest / mean)² w.r.t. a pixel."""
        mean = self._luma.mean().clamp_min(EPSILON)
        missing = (self._loss.darkest / mean).log_().clamp_min_(0)
        return missing.div_(mean).mul_(-2 * BRIGHTNESS / self._luma.numel())

    def _prepare(self, loss: BaseLoss, luma: Tensor) -> None:
        self._calls: list[Prepared] = []
        self._parts: list[GradientPart] = []
        self._image = image = torch.empty_like(luma)
        for scale, (level, weight) in enumerate(zip(loss.ma2015, MA2015, strict=True)):
            if scale:
                self._calls.append(prepare_halve(image))
                image = self._calls[-1].results[0]
            self._calls.append(prepare_quality(*level, image, True))
            gradient = self._calls[-1].results[1]
            self._parts.append(GradientPart(gradient, -WHITE * weight, scale))
        self._mefnet = prepare_mefnet_factors(*loss.mefnet, luma, True)
        difference = prepare_loss(luma, loss.gray, STRUCTURE_OPTIONS)
        self._calls += [self._mefnet, difference]
        self._parts.append(GradientPart(difference.results[0], STRUCTURE))


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
    moments = torch.zeros_like(refined), torch.zeros_like(refined)
    state = DescentState(refined, *moments, loss.fused_luma(refined).contiguous())
    luma_gradient = LumaGradient(loss, state.luma)
    planes = torch.empty(0)
    for step in range(steps):
        if step % COLOR_STEPS == 0:
            planes = loss.linearized(refined)
        # The bias correction of Adam's second moment is a factor of the rate and of epsilon.
        unbiased = math.sqrt(1 - SCALE_DECAY ** (step + 1))
        rate = RATE * (1 - step / steps) / (1 - MOMENTUM ** (step + 1)) * unbiased
        adam = Adam(MOMENTUM, SCALE_DECAY, rate, EPSILON / pixels * unbiased)
        descent_step(state, planes, *luma_gradient(), adam)
    return refined
