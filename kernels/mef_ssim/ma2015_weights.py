r"""The weights of the exposures in a window of ma2015, from the norms of their patches.

.. math::
    e_k = \|x_k - \mu_k\| + 0.001, \quad R = \|\textstyle\sum_k (x_k - \mu_k)\|
    / \textstyle\sum_k \|x_k - \mu_k\|, \quad p = \min(\tan(\tfrac{\pi}{2} R), 10), \quad
    g_k \propto ((e_k / \sqrt N)^p + 2^{-52}) / e_k
"""

from __future__ import annotations

import triton
import triton.language as tl

NOISE = tl.constexpr(8 * 2.0**-23)  # relative rounding of a variance, as in the reference
TINY = tl.constexpr(2.0**-52)
LEAST_CONTRAST = tl.constexpr(0.001)
HALF_PI = tl.constexpr(1.5707963267948966)


@triton.jit
def quarter_sine(x):
    """Return sin x for 0 <= x <= π/2 up to rounding.

    The general sine needs stack memory for huge arguments.
    """
    square = x * x
    series = 1.0 - square * (1.0 / 156)
    series = 1.0 - square * (1.0 / 110) * series
    series = 1.0 - square * (1.0 / 72) * series
    series = 1.0 - square * (1.0 / 42) * series
    series = 1.0 - square * (1.0 / 20) * series
    series = 1.0 - square * (1.0 / 6) * series
    return x * series


@triton.jit
def norm_of(variance, moment, COUNT: tl.constexpr):
    """Return the norm of a patch of COUNT pixels, 0 if its variance is within rounding of 0."""
    return tl.sqrt(tl.where(variance > NOISE * moment, COUNT * variance, 0.0))


@triton.jit
def exponent_of(total_variance, norm_sum, COUNT: tl.constexpr):
    """Return p from the variance of the sum of the exposures and the sum of their norms."""
    agreement = (tl.sqrt(COUNT * total_variance) + TINY) / (norm_sum + TINY)
    # The exponent reaches its cap at 0.937; stopping at 0.99 keeps the tangent on its first branch.
    agreement = tl.minimum(agreement, 0.99)
    tangent = quarter_sine(HALF_PI * agreement) / quarter_sine(HALF_PI * (1.0 - agreement))
    return tl.minimum(tangent, 10.0)


@triton.jit
def gains_of(norms, exponent, COUNT: tl.constexpr):
    """Return g_k for weights that sum to 1; it is 0 for an exposure without structure."""
    side: tl.constexpr = COUNT**0.5
    weights = ()
    total = tl.zeros(exponent.shape, tl.float32)
    for k in tl.static_range(len(norms)):
        contrast = (norms[k] + LEAST_CONTRAST) * (1.0 / side)
        weights = weights + (tl.exp2(exponent * tl.log2(contrast)) + TINY,)
        total += weights[k]
    gains = ()
    for k in tl.static_range(len(norms)):
        gain = weights[k] / (total * (norms[k] + LEAST_CONTRAST))
        gains = gains + (tl.where(norms[k] > 0, gain, 0.0),)
    return gains


@triton.jit
def rescale_of(variance, threshold, strongest, COUNT: tl.constexpr):
    """Return the factor that gives the weighted patch of this variance the norm ``strongest``.

    Exposures that cancel each other leave only rounding, which must not be amplified.
    """
    return strongest * tl.rsqrt(tl.where(variance > NOISE * threshold, COUNT * variance, 1.0))
