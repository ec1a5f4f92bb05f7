"""Window means over the last two axes, on which all windowed operations are built."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef.reference.borders import mirror_border, repeat_border


def gaussian_taps(window: int, sigma: float | None) -> tuple[float, ...]:
    r"""Return filter taps :math:`w_i \propto e^{-(i-m)^2 / 2\sigma^2}` that sum to 1.

    ``sigma=None`` gives flat taps. Every backend takes its taps from this function.
    """
    if sigma is None:
        return (1.0 / window,) * window
    middle = (window - 1) / 2
    # Dividing by sigma before squaring avoids its square, which may underflow to 0.
    distances = [(i - middle) / sigma for i in range(window)]
    raw = [math.exp(-0.5 * (distance * distance)) for distance in distances]
    total = math.fsum(raw)
    return tuple(value / total for value in raw)


def effective_window(window: int, size: int) -> int:
    """Return the window used along an axis of ``size`` pixels: the largest odd one that fits."""
    if window <= size:
        return window
    return size if size % 2 else size - 1


class _WindowSum(torch.autograd.Function):
    r"""Compute the sum of shifted images, :math:`y_i = \sum_j t_j\, x_{i + j - p}`, along one axis.

    A one-channel convolution takes several times as long on a CPU (bench/README.md), and a GPU may
    compute it in TensorFloat-32, whose ten bits of mantissa lose small variances.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(planes: Tensor, taps: tuple[float, ...], dim: int, padding: int) -> Tensor:
        if padding:
            planes = F.pad(planes, (padding, padding) if dim == -1 else (0, 0, padding, padding))
        length = planes.shape[dim] - len(taps) + 1
        out = planes.narrow(dim, 0, length) * taps[0]
        for offset, tap in enumerate(taps[1:], 1):
            out.add_(planes.narrow(dim, offset, length), alpha=tap)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.taps, ctx.dim, ctx.padding = inputs

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        # The taps are symmetric: the backward pass is the same sum with the complementary padding.
        padding = len(ctx.taps) - 1 - ctx.padding
        return _WindowSum.apply(grad_output, ctx.taps, ctx.dim, padding), None, None, None


def window_filter(
    images: Tensor, window: int = 11, sigma: float | None = 1.5, border: str = "valid"
) -> Tensor:
    r"""Compute the separable window mean :math:`w * I` over the last two axes.

    Args:
        images: ``(..., H, W)``, floating point.
        window: odd number of taps. Along an axis that is shorter, the largest odd window that fits
            is used, with taps of the same ``sigma``.
        sigma: standard deviation of the Gaussian in pixels; ``None`` is a flat window.
        border: ``"valid"`` keeps only positions whose window lies inside, ``"zero"`` and
            ``"reflect"`` keep the size and pad the image with zeros or by reflection.

    Returns:
        ``(..., H - wy + 1, W - wx + 1)`` for ``"valid"``, else ``(..., H, W)``; ``wy`` and ``wx``
        are the windows used.
    """
    height, width = images.shape[-2:]
    planes = images.reshape(-1, 1, height, width)
    wy, wx = effective_window(window, height), effective_window(window, width)
    py, px = (0, 0) if border == "valid" else (wy // 2, wx // 2)
    if border == "reflect":
        planes = mirror_border(planes, px, py)
        py = px = 0
    if wy > 1:
        planes = _WindowSum.apply(planes, gaussian_taps(wy, sigma), -2, py)
    if wx > 1:
        planes = _WindowSum.apply(planes, gaussian_taps(wx, sigma), -1, px)
    return planes.reshape(*images.shape[:-2], *planes.shape[-2:])


def crop_to_centers(images: Tensor, window: int) -> Tensor:
    """Return the pixels at the centres of the ``"valid"`` windows."""
    height, width = images.shape[-2:]
    ry, rx = effective_window(window, height) // 2, effective_window(window, width) // 2
    return images[..., ry : height - ry, rx : width - rx]


def halve(images: Tensor) -> Tensor:
    r"""Halve the size: return the mean of every 2×2 block. An odd last row or column is repeated.

    ``(..., H, W)`` becomes ``(..., ceil(H/2), ceil(W/2))``.
    """
    height, width = images.shape[-2:]
    planes = images.reshape(-1, 1, height, width)
    if height % 2 or width % 2:
        planes = repeat_border(planes, 0, width % 2, 0, height % 2)
    out = F.avg_pool2d(planes, 2)
    return out.reshape(*images.shape[:-2], *out.shape[-2:])


def plane_mean(images: Tensor) -> Tensor:
    """Return a constant for each plane, to be subtracted before variances are formed.

    :math:`E[x^2] - E[x]^2` loses precision by cancellation in bright flat areas. Subtracting a
    constant does not change a variance or covariance, and around the mean little cancels. The
    constant has no gradient. Values that are not finite count as 0: through the constant they would
    make windows that do not contain them NaN.
    """
    return images.detach().nan_to_num(0.0, 0.0, 0.0).mean(dim=(-2, -1), keepdim=True)
