"""Windowed structural similarity (Wang, Bovik, Sheikh, Simoncelli, TIP 13(4) 2004)."""

from __future__ import annotations

from torch import Tensor

from fastmef.reference.filters import plane_mean, window_filter


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
    r"""Compute the mean SSIM of images of broadcastable shapes ``(..., H, W)``, or its map.

    .. math::
        \mathrm{SSIM} = \frac{2\mu_a\mu_b + C_1}{\mu_a^2 + \mu_b^2 + C_1}
        \cdot \frac{2\sigma_{ab} + C_2}{\sigma_a^2 + \sigma_b^2 + C_2},
        \quad C_i = (k_i \cdot \text{data\_range})^2

    ``luminance=False`` leaves only the second factor, contrast times structure;
    ``reduction="none"`` is the map.
    """
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    # Zero padding takes part in the moments, so no constant may be subtracted from the images.
    shift_a = 0.0 if border == "zero" else plane_mean(a)
    shift_b = 0.0 if border == "zero" else plane_mean(b)
    x, y = a - shift_a, b - shift_b
    mu_x, mu_y = window_filter(x, window, sigma, border), window_filter(y, window, sigma, border)
    # The formula needs only the sum of the two variances.
    second_moments = window_filter(x * x, window, sigma, border) + window_filter(
        y * y, window, sigma, border
    )
    variances = second_moments - mu_x * mu_x - mu_y * mu_y
    covariance = window_filter(x * y, window, sigma, border) - mu_x * mu_y
    similarity = (2 * covariance + c2) / (variances + c2)
    if luminance:
        mu_a, mu_b = mu_x + shift_a, mu_y + shift_b
        similarity = similarity * (2 * mu_a * mu_b + c1) / (mu_a * mu_a + mu_b * mu_b + c1)
    return similarity.mean() if reduction == "mean" else similarity
