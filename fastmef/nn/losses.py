"""The terms of unsupervised training losses, as modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastmef import functional
from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_at_least, check_float, check_same_kind, check_window
from fastmef.functional._gamma import Gamma
from fastmef.functional._images import check_exposures, check_fused, to_channels, to_luma
from fastmef.functional.loss import loss_options
from fastmef.reference.filters import halve, window_filter
from fastmef.reference.gamma import well_exposedness


class WeightedSSIMLoss(nn.Module):
    r"""Compare a fused image with every exposure by windowed SSIM, weighted by γ.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

    The arguments are those of :func:`fastmef.functional.weighted_ssim_loss`. A module given as
    ``gamma`` is a submodule, so that its parameters can be trained.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)``, or grey with or without a channel
        axis of size 1, floating point in [0, 1]; mask ``(B, H, W)`` or ``(B, 1, H, W)`` → scalar.

    Raises:
        InputError: an option or a shape that does not fit.

    Source: arXiv 2510.21815.

    Example:
        >>> loss = WeightedSSIMLoss()
        >>> fused, exposures = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 32, 32)
        >>> bool(0 <= loss(fused, exposures) <= 2)
        True
        >>> bool(loss(exposures[:, 0], exposures[:, :1]) < 1e-6)
        True
    """

    def __init__(
        self,
        gamma: Gamma = "variance_gradient",
        luminance: bool = False,
        window: int = 11,
        sigma: float | None = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        floor: float = 1e-4,
        eps: float = 1e-12,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        checked, levels = loss_options(scales, gamma, luminance, window, sigma, k1, k2, floor, eps)
        self.options = {**checked._asdict(), "scales": levels}
        if isinstance(gamma, nn.Module):
            self.gamma = gamma

    def forward(self, fused: Tensor, exposures: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.weighted_ssim_loss(fused, exposures, mask=mask, **self.options)

    def from_logits(self, logits: Tensor, exposures: Tensor) -> Tensor:
        """Return the same loss of the image that ``logits`` fuse, without forming it in RGB.

        In ``DistributedDataParallel`` the logits must come from the wrapped module's own forward
        pass, ``network(exposures, fuse=False)``: gradients of other methods are not synchronised.

        Args:
            logits: ``(B, K, H, W)``.
            exposures: ``(B, K, 3, H, W)``, or grey with or without a channel axis.
        """
        return functional.fusion_loss(logits, exposures, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class ColorContrastLoss(nn.Module):
    r"""Compare contrast and structure over the three colour channels jointly.

    A grey loss cannot tell a blue sky from a white one of the same luma. Here all pixels of a
    window in all three channels form one vector, as in ``color2018``: colourfulness is contrast
    between channels, which a washed-out result has lost.

    .. math:: L = 1 - \operatorname{mean}_p \sum_k
        \gamma_k(p)\,\frac{2\sigma_{F I_k} + C_2}{\sigma_F^2 + \sigma_{I_k}^2 + C_2},
        \qquad \gamma_k = \frac{V_k^{\,p}}{\sum_j V_j^{\,p}}

    with the moments over window and channels, and V the joint variance.

    Args:
        level: how many times images are halved first, because colour is coarse and small images
            are cheap.
        window: odd side of the windows in pixels.
        sigma: standard deviation of the windows' Gaussian in pixels; ``None`` is a flat window.
        power: sharpness of γ.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)``, or grey with or without a channel
        axis of size 1, floating point in [0, 1] → scalar.

    Raises:
        InputError: an option or a shape that does not fit.

    Example:
        >>> exposures = torch.rand(1, 2, 3, 64, 64)
        >>> gray = exposures.mean(dim=2, keepdim=True).expand_as(exposures)
        >>> loss = ColorContrastLoss()
        >>> bool(loss(exposures[:, 0], exposures) < loss(gray[:, 0], exposures))
        True
    """

    def __init__(
        self, level: int = 2, window: int = 7, sigma: float | None = 1.5, power: float = 1.0
    ) -> None:
        super().__init__()
        _check_level(level)
        check_window(window, sigma)
        check_at_least("power", power, 0)
        self.level, self.window, self.sigma, self.power = level, window, sigma, power

    def forward(self, fused: Tensor, exposures: Tensor) -> Tensor:
        _check_images(fused, exposures)
        fused, exposures = to_channels(fused, 3), to_channels(exposures, 4)
        for _ in range(self.level):
            fused, exposures = halve(fused), halve(exposures)
        # All exposures share the constant, so differences between them keep their size.
        center = exposures.detach().mean(dim=(1, 2, 3, 4), keepdim=True)
        x = fused.unsqueeze(1) - center
        y = exposures - center
        mean_x, mean_y, square_x, square_y, product = (
            window_filter(planes.mean(dim=2), self.window, self.sigma)
            for planes in (x, y, x * x, y * y, x * y)
        )
        variance_y = (square_y - mean_y * mean_y).clamp_min(1e-4)
        variances = square_x - mean_x * mean_x + square_y - mean_y * mean_y
        covariance = product - mean_x * mean_y
        similarity = (2 * covariance + 9e-4) / (variances + 9e-4)
        gamma = variance_y**self.power
        gamma = gamma / gamma.sum(dim=1, keepdim=True)
        return 1 - (gamma * similarity).sum(dim=1).mean()


class BrightnessLoss(nn.Module):
    r"""Keep the coarse brightness near that of the well-exposed exposures.

    Contrast and structure do not depend on brightness, which drifts without this term. The target
    is the luminance reference of Ma et al. (MEF-Net, TIP 29, 2020), on images halved ``level``
    times:

    .. math:: l = \frac{\sum_k L_k \mu_k}{\sum_k L_k}, \quad
        L_k = e^{-(\mu_k - 0.5)^2 / 2\cdot 0.2^2}\, e^{-(\bar\mu_k - 0.5)^2 / 2\cdot 0.2^2},
        \qquad L = \operatorname{mean} (\mu_F - l)^2

    Args:
        level: how many times images are halved first.

    Shape:
        fused ``(B, 3, H, W)`` and exposures ``(B, K, 3, H, W)``, or grey with or without a channel
        axis of size 1, floating point in [0, 1] → scalar.

    Raises:
        InputError: an option or a shape that does not fit.

    Example:
        >>> exposures = torch.stack((torch.full((1, 3, 32, 32), 0.5), torch.ones(1, 3, 32, 32)), 1)
        >>> loss = BrightnessLoss()
        >>> bool(loss(exposures[:, 0], exposures) < loss(exposures[:, 1], exposures))
        True
    """

    def __init__(self, level: int = 3) -> None:
        super().__init__()
        _check_level(level)
        self.level = level

    def forward(self, fused: Tensor, exposures: Tensor) -> Tensor:
        _check_images(fused, exposures)
        gray, stack = to_luma(fused, 3), to_luma(exposures, 4)
        importance = well_exposedness(stack.mean(dim=(-2, -1), keepdim=True))
        for _ in range(self.level):
            gray, stack = halve(gray), halve(stack)
        importance = importance * well_exposedness(stack)
        target = (importance * stack).sum(dim=1) / importance.sum(dim=1).clamp_min(1e-12)
        return (gray - target).square().mean()


def _check_images(fused: Tensor, exposures: Tensor) -> None:
    check_float("fused", fused)
    check_float("exposures", exposures)
    check_exposures(exposures)
    check_fused(fused, exposures)
    check_same_kind("fused", fused, "exposures", exposures)


def _check_level(level: int) -> None:
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level <= 64:
        raise InputError(f"level must be an integer from 0 to 64, got {shown(level)}")
