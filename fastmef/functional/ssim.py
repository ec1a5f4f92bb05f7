"""The structural similarity of two images."""

from __future__ import annotations

from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import (
    check_at_least,
    check_choice,
    check_flag,
    check_planes,
    check_positive,
    check_same_kind,
    check_window,
)
from fastmef.ops import ssim as ops


def ssim(
    a: Tensor,
    b: Tensor,
    window: int = 11,
    sigma: float | None = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_range: float = 1.0,
    luminance: bool = True,
    border: str = "valid",
    reduction: str = "mean",
) -> Tensor:
    r"""Return the windowed structural similarity of two images.

    .. math::
        \mathrm{SSIM} = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}
        \cdot \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2},
        \quad C_i = (k_i \cdot \text{data\_range})^2

    Args:
        a: ``(..., H, W)``, float16, bfloat16, float32 or float64. Channels are planes of their own.
        b: like a in shape and dtype.
        window, sigma: as for :func:`local_variance`.
        k1, k2: stability constants, ≥ 0.
        data_range: the span of the values, > 0; 1 for images in [0, 1].
        luminance: ``False`` omits the first factor.
        border: ``"valid"``, ``"zero"`` or ``"reflect"``, as for :func:`local_variance`.
        reduction: ``"mean"`` or ``"none"``.

    Returns:
        The mean, a scalar in [-1, 1], float32 for half precision and else in the dtype of the
        images; or the map in the dtype of the images, ``(..., H - window + 1, W - window + 1)`` for
        ``"valid"`` and else ``(..., H, W)``.

    Memory: the gradients of the mean are computed with it, if they are needed, and saved for the
    backward pass; the map saves a and b.

    Raises:
        InputError: shapes, dtypes or devices that differ, or an option out of range.

    Source: Wang, Bovik, Sheikh, Simoncelli, TIP 13(4), 2004.

    Example:
        >>> image = torch.rand(1, 3, 32, 32)
        >>> torch.testing.assert_close(ssim(image, image), torch.tensor(1.0))
        >>> ssim(image, 1 - image, reduction="none").shape
        torch.Size([1, 3, 22, 22])
    """
    check_planes("a", a)
    check_planes("b", b)
    if a.shape != b.shape:
        raise InputError(
            f"a and b must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    check_same_kind("a", a, "b", b)
    check_window(window, sigma)
    check_at_least("k1", k1, 0)
    check_at_least("k2", k2, 0)
    check_positive("data_range", data_range)
    check_flag("luminance", luminance)
    check_choice("border", border, ("valid", "zero", "reflect"))
    check_choice("reduction", reduction, ("mean", "none"))
    return ops.ssim(
        a,
        b,
        window=window,
        sigma=sigma,
        k1=k1,
        k2=k2,
        data_range=data_range,
        luminance=luminance,
        border=border,
        reduction=reduction,
    )
