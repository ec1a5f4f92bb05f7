"""Losses as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastmef import functional
from fastmef.errors import InputError
from fastmef.functional.loss import loss_options
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.filters import halve, window_filter
from fastmef.reference.gamma import well_exposedness


class WeightedSSIMLoss(nn.Module):
    r"""γ-weighted windowed SSIM of a fused image to every exposure, on their luma.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

    The arguments are those of :func:`fastmef.functional.weighted_ssim_loss`.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)`` in [0, 1] → scalar.

    Source: arXiv 2510.21815.

    Example:
        >>> loss = WeightedSSIMLoss()
        >>> value = loss(torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 32, 32))
    """

    def __init__(
        self,
        gamma: str = "variance_gradient",
        luminance: bool = False,
        window: int = 11,
        sigma: float | None = 1.5,
        scales: Sequence[float] = (1.0,),
        k1: float = 0.01,
        k2: float = 0.03,
        floor: float = 1e-4,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        self.options = loss_options(gamma, luminance, window, sigma, k1, k2, floor, eps, scales)

    def forward(self, fused: Tensor, exposures: Tensor, mask: Tensor | None = None) -> Tensor:
        _check_images(fused, exposures)
        return functional.weighted_ssim_loss(
            rgb_to_gray(fused), rgb_to_gray(exposures), mask=mask, **self.options
        )

    def from_logits(self, logits: Tensor, exposures: Tensor) -> Tensor:
        """The same loss of the fusion by ``logits`` ``(B, K, H, W)``, without forming it in RGB."""
        return functional.fusion_loss(logits, rgb_to_gray(exposures), **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class ColorContrastLoss(nn.Module):
    r"""Contrast–structure loss over the three colour channels jointly.

    A grey loss cannot tell a blue sky from a white one of the same luma. Here a window is one
    vector of all its pixels in all three channels, as in ``color2018``: colourfulness is contrast
    between channels, and a washed-out result has lost it.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k
        \gamma_k(p)\,\frac{2\sigma_{F I_k} + C_2}{\sigma_F^2 + \sigma_{I_k}^2 + C_2},
        \qquad \gamma_k = \frac{V_k^{\,p}}{\sum_j V_j^{\,p}}

    with the moments over window and channels, and V the joint variance.

    Args:
        level: images are halved this many times first; colour is coarse, and this is cheap.
        window, sigma: of the moments.
        power: sharpness of γ.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)`` in [0, 1] → scalar.
    """

    def __init__(
        self, level: int = 2, window: int = 7, sigma: float | None = 1.5, power: float = 1.0
    ) -> None:
        super().__init__()
        self.level, self.window, self.sigma, self.power = level, window, sigma, power

    def forward(self, fused: Tensor, exposures: Tensor) -> Tensor:
        _check_images(fused, exposures)
        for _ in range(self.level):
            fused, exposures = halve(fused), halve(exposures)
        # All exposures share the constant, so differences between them keep their size.
        center = exposures.detach().mean(dim=(1, 2, 3, 4), keepdim=True)
        x = fused.unsqueeze(1) - center
        y = exposures - center
        mean_x, mean_y, power_x, power_y, product = (
            window_filter(planes.mean(dim=2), self.window, self.sigma)
            for planes in (x, y, x * x, y * y, x * y)
        )
        variance_y = (power_y - mean_y * mean_y).clamp_min(1e-4)
        variances = power_x - mean_x * mean_x + power_y - mean_y * mean_y
        covariance = product - mean_x * mean_y
        similarity = (2 * covariance + 9e-4) / (variances + 9e-4)
        gamma = variance_y**self.power
        gamma = gamma / gamma.sum(dim=1, keepdim=True)
        return 1 - (gamma * similarity).sum(dim=1).mean()


class BrightnessLoss(nn.Module):
    r"""Pull of the coarse brightness towards the well-exposed exposures.

    Contrast and structure say nothing of brightness: without a pull it drifts. The target is the
    luminance reference of Ma et al. (MEF-Net, TIP 29, 2020), on images halved ``level`` times:

    .. math:: l = \frac{\sum_k L_k \mu_k}{\sum_k L_k}, \quad
        L_k = e^{-(\mu_k - 0.5)^2 / 2\cdot 0.2^2}\, e^{-(\bar\mu_k - 0.5)^2 / 2\cdot 0.2^2},
        \qquad L = \operatorname{mean} (\mu_F - l)^2

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)`` in [0, 1] → scalar.
    """

    def __init__(self, level: int = 3) -> None:
        super().__init__()
        self.level = level

    def forward(self, fused: Tensor, exposures: Tensor) -> Tensor:
        _check_images(fused, exposures)
        gray, stack = rgb_to_gray(fused), rgb_to_gray(exposures)
        importance = well_exposedness(stack.mean(dim=(-2, -1), keepdim=True))
        for _ in range(self.level):
            gray, stack = halve(gray), halve(stack)
        importance = importance * well_exposedness(stack)
        target = (importance * stack).sum(dim=1) / importance.sum(dim=1).clamp_min(1e-12)
        return (gray - target).square().mean()


def _check_images(fused: Tensor, exposures: Tensor) -> None:
    fits = exposures.ndim == 5 and exposures.shape[2] == 3 and 0 not in exposures.shape
    if not fits or fused.shape != exposures.shape[:1] + exposures.shape[2:]:
        raise InputError(
            "fused must be (B, 3, H, W) and exposures (B, K, 3, H, W) and not empty, "
            f"got {tuple(fused.shape)} and {tuple(exposures.shape)}"
        )
