"""Render exposures from linear radiance, as a camera would store them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fastmef.data.srgb import srgb_decode as srgb_decode
from fastmef.data.srgb import srgb_encode as srgb_encode
from fastmef.errors import InputError
from fastmef.reference.color import GRAY_COEFFICIENTS

CURVES = ("srgb", "linear")

# The exposure search samples about this many pixels: means and quantiles of an image do not need
# more, and a 20-megapixel image is then as fast as a small one.
_SEARCH_PIXELS = 100_000

# Limits of the mean luma, in 8-bit levels, when it leaves its target for highlights or shadows.
_DARKEST_UNDER_MEAN = 25.0
_BRIGHTEST_OVER_MEAN = 215.0

# In the darkest exposure of a bracket at most 3 % of the pixels exceed HIGHLIGHT, in the brightest
# at most 3 % lie below SHADOW (linear luma, 1 is white). The number of stops is limited to what
# photographers take.
CLIPPED = 0.03
HIGHLIGHT, SHADOW = 0.9, 0.35
FEWEST_STOPS, MOST_STOPS = 2.0, 12.0

# At or below this luma, in 8-bit levels, JPEG preserves no texture.
_CRUSHED_LEVEL = 10.0


def render_exposures(
    radiance: NDArray[np.floating], evs: Iterable[float], curve: str = "srgb"
) -> list[NDArray[np.uint8]]:
    r"""Render 8-bit exposures of a scene from its linear radiance.

    :math:`I = \mathrm{round}\big(255 \cdot f(\min(\max(2^{ev} L, 0), 1))\big)`

    with the sRGB transfer function :math:`f`. No noise is added, and exposures of the same radiance
    are aligned exactly.

    Args:
        radiance: (H, W, 3), floating point, linear light in the primaries of the result, at any
            scale. Negative values render as 0.
        evs: exposure values in stops, within [-100, 100], one picture each; +1 doubles the light.
        curve: ``"srgb"`` or ``"linear"`` (:math:`f(x) = x`).

    Returns:
        One (H, W, 3) uint8 array for each exposure value, in the order given.

    Raises:
        InputError: the radiance has another shape or dtype, or NaN or infinite values; an exposure
            value exceeds 100 stops; or the curve is unknown.

    Example:
        >>> import numpy as np
        >>> dark, bright = render_exposures(np.full((1, 1, 3), 0.25), evs=[-1, 2])
        >>> int(dark[0, 0, 0]), int(bright[0, 0, 0])
        (99, 255)
    """
    radiance = _checked_radiance(radiance)
    if curve not in CURVES:
        raise InputError(f"curve must be one of {', '.join(CURVES)}, got {curve!r}")
    stops = [float(ev) for ev in evs]
    for ev in stops:
        if not -100 <= ev <= 100:
            raise InputError(f"exposure values must lie in [-100, 100] stops, got {ev:g}")
    return [_to_8bit(_expose(radiance, ev), curve) for ev in stops]


def auto_exposures(
    radiance: NDArray[np.floating],
    under_mean: float = 45.0,
    over_mean: float = 185.0,
    max_clipped: float = 0.01,
    max_crushed: float = 0.01,
    max_stops: float = 6.0,
) -> tuple[float, float]:
    r"""Choose an under- and an over-exposure as a photographer brackets a scene.

    The under-exposed frame has a mean luma of ``under_mean``, and is darkened further, to a mean
    of 25 at most, while more than ``max_clipped`` of its pixels have a channel at white:

    :math:`ev_u = \max\big(ev(25), \min(ev(\text{under mean}), -\log_2 Q_{1-c}(\max_c L_c))\big)`

    The over-exposed frame is chosen likewise: a mean of ``over_mean``, brightened to 215 at most
    while more than ``max_crushed`` of its pixels have luma 10 or less:

    :math:`ev_o = \min\big(ev(215), \max(ev(\text{over mean}),
    \log_2(f^{-1}(10/255) / Q_s(Y)))\big)`

    :math:`ev(m)` is the exposure value whose sRGB rendering has the mean luma :math:`m` (found by
    bisection), :math:`Q` a quantile over pixels, :math:`Y` the luma of the linear radiance. Last,
    the over-exposed frame is darkened until it lies at most ``max_stops`` above the other;
    otherwise, the two would have nothing in common in a night scene with lamps. The default means
    are the medians of a few hundred public photograph pairs.

    Args:
        radiance: (H, W, 3), floating point, linear light, any scale.
        under_mean: mean luma of the under-exposed frame, 8-bit levels.
        over_mean: mean luma of the over-exposed frame, 8-bit levels, above ``under_mean``.
        max_clipped: fraction of pixels that may be white in the under-exposed frame.
        max_crushed: fraction of pixels that may be black in the over-exposed frame.
        max_stops: largest distance of the two exposure values, > 0.

    Returns:
        ``(under, over)`` exposure values in stops, for :func:`render_exposures`.

    Raises:
        InputError: the radiance has another shape or dtype, NaN or infinite values, or so many
            black pixels that no exposure reaches a mean; or another argument is out of range.

    Example:
        >>> import numpy as np
        >>> ramp = np.geomspace(0.01, 100, 64)[:, None, None] * np.ones((1, 64, 3))
        >>> under, over = auto_exposures(ramp)
        >>> bool(under < over)
        True
    """
    radiance = _checked_radiance(radiance)
    if not 0 < under_mean < over_mean < 255:
        raise InputError(
            "means must satisfy 0 < under_mean < over_mean < 255, "
            f"got {under_mean:g} and {over_mean:g}"
        )
    for name, fraction in (("max_clipped", max_clipped), ("max_crushed", max_crushed)):
        if not 0 <= fraction < 1:
            raise InputError(f"{name} must lie in [0, 1), got {fraction:g}")
    if not max_stops > 0:
        raise InputError(f"max_stops must be greater than 0, got {max_stops:g}")

    step = math.ceil(math.sqrt(radiance.shape[0] * radiance.shape[1] / _SEARCH_PIXELS))
    pixels = np.maximum(radiance[::step, ::step].reshape(-1, 3), 0).astype(np.float64)

    under = _ev_of_mean(pixels, under_mean)
    highlight = float(np.quantile(pixels.max(axis=-1), 1 - max_clipped))
    if highlight > 0:
        unclipped = -float(np.log2(highlight))
        darkest = _ev_of_mean(pixels, min(under_mean, _DARKEST_UNDER_MEAN))
        under = max(darkest, min(under, unclipped))

    over = _ev_of_mean(pixels, over_mean)
    shadow = float(np.quantile(_luma(pixels), max_crushed))
    brightest = _ev_of_mean(pixels, max(over_mean, _BRIGHTEST_OVER_MEAN))
    if shadow > 0:
        crushed = srgb_decode(np.asarray(_CRUSHED_LEVEL / 255))
        over = min(brightest, max(over, float(np.log2(crushed / shadow))))
    return under, min(over, under + max_stops)


def exposure_range(radiance: NDArray[np.floating], clipped: float = CLIPPED) -> tuple[float, float]:
    r"""Return the lowest and the highest exposure value, in stops, of a bracket of this scene.

    .. math:: ev_{low} = \log_2(0.9 / Q_{1-c}(Y)), \qquad
        ev_{high} = ev_{low} + \min(\max(\log_2(0.35 / Q_c(Y)) - ev_{low}, 2), 12)

    where :math:`Q` is a quantile over the pixels, :math:`Y` the luma of the radiance ``(H, W, 3)``,
    and :math:`c` the share ``clipped`` of the pixels.
    """
    luma = _luma(radiance)
    bright, dark = np.percentile(luma, (100 * (1 - clipped), 100 * clipped))
    lowest = float(np.log2(HIGHLIGHT / max(bright, 1e-6)))
    highest = float(np.log2(SHADOW / max(dark, 1e-6)))
    return lowest, lowest + min(max(highest - lowest, FEWEST_STOPS), MOST_STOPS)


def _checked_radiance(radiance: NDArray[np.floating]) -> NDArray[np.floating]:
    """Check radiance, and return it in float32 or wider.

    Half floats would round the response curve to visible steps.
    """
    radiance = np.asarray(radiance)
    if radiance.ndim != 3 or radiance.shape[2] != 3 or radiance.size == 0:
        raise InputError(f"radiance must have the shape (H, W, 3), got {radiance.shape}")
    if not np.issubdtype(radiance.dtype, np.floating):
        raise InputError(f"radiance must be floating point, got {radiance.dtype}")
    if not np.isfinite(radiance).all():
        raise InputError("radiance must be finite, got NaN or infinite values")
    return radiance.astype(np.promote_types(radiance.dtype, np.float32), copy=False)


def _expose(radiance: NDArray[np.floating], ev: float) -> NDArray[np.floating]:
    """Scale radiance by ``ev`` stops and clip it to [0, 1]."""
    with np.errstate(over="ignore"):
        return np.clip(radiance * radiance.dtype.type(2.0**ev), 0, 1)


def _to_8bit(exposed: NDArray[np.floating], curve: str) -> NDArray[np.uint8]:
    """Apply a response curve to linear light in [0, 1] and round to 8 bits."""
    encoded = srgb_encode(exposed) if curve == "srgb" else exposed
    return np.rint(encoded * 255).astype(np.uint8)


def _luma(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
    return pixels @ np.asarray(GRAY_COEFFICIENTS, dtype=pixels.dtype)


def _ev_of_mean(pixels: NDArray[np.floating], mean: float) -> float:
    """Return the exposure value at which ``pixels`` (N, 3), rendered in sRGB, have a mean luma."""

    def rendered_mean(ev: float) -> float:
        return 255 * float(_luma(srgb_encode(_expose(pixels, ev))).mean())

    positive = pixels[pixels > 0]
    if positive.size == 0:
        raise InputError("radiance must have a positive value, got none")
    # At ``low`` the brightest value lies twelve stops below white, so everything is black. At
    # ``high`` every positive value is white.
    low = -float(np.log2(positive.max())) - 12
    high = -float(np.log2(positive.min()))
    if rendered_mean(high) < mean:
        raise InputError(
            f"no exposure brings the mean luma to {mean:g}: "
            f"{1 - positive.size / pixels.size:.0%} of the radiance is zero or negative"
        )
    for _ in range(30):
        middle = (low + high) / 2
        if rendered_mean(middle) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2
