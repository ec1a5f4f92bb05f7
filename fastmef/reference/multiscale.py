"""Multiscale fusion: softmax weights for the base, the variance of luma for bands of detail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastmef.reference.borders import repeat_border
from fastmef.reference.color import rgb_to_gray
from fastmef.reference.filters import window_filter
from fastmef.reference.fusion import softmax_fuse, stored, stored_like
from fastmef.reference.pyramid import enlarge, expand, reduce, shrink

Knee = tuple[float, float]
Resample = Callable[[Tensor, Sequence[int]], Tensor]

# The defaults of multiscale_fuse: the radius of the windows, the number added to the variance, and
# the distances from black and white at which compression begins.
RADIUS, FLOOR = 4, 1e-6
KNEE: Knee = (1 / 128, 1 / 32)


class ExposurePyramid(NamedTuple):
    """The Gaussian pyramid of exposures ``(B, K, C, H, W)`` without its finest level.

    Attributes:
        base: the coarsest level in [0, 1], ``(B, K, C, h, w)``, float32 (float64 for float64).
        inner: the levels between the exposures and the base, finest first. They are uint16, scaled
            to 65535, for integer exposures, and in the dtype of the base for others.
        validity: the fraction of valid pixels behind each pixel of ``inner`` and ``base``,
            ``(B, K, ., .)`` in the dtype of the base; empty if no ``valid`` was given.
    """

    base: Tensor
    inner: tuple[Tensor, ...] = ()
    validity: tuple[Tensor, ...] = ()


class BandOptions(NamedTuple):
    """The options of :func:`blend_band`."""

    radius: int = RADIUS
    floor: float = FLOOR
    contrast: float | Tensor = 1.0
    finest: bool = False
    low: float = 0.0
    """``low`` and ``high`` are the knee of the finest level, 0 without a knee."""
    high: float = 0.0

    @property
    def knee(self) -> Knee | None:
        return (self.low, self.high) if self.low > 0 else None


def highest_value(dtype: torch.dtype) -> int:
    """Return the value that represents 1 in images of this dtype."""
    return 1 if dtype.is_floating_point else torch.iinfo(dtype).max


def effective_validity(valid: Tensor) -> Tensor:
    """Return ``valid`` ``(B, K, H, W)``, set to true for all exposures where none is valid."""
    return valid | ~valid.any(dim=1, keepdim=True)


def working_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return float64 if any tensor is float64, else float32."""
    in_double = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if in_double else torch.float32


def reduced_dtype(exposures: Tensor, is_base: bool) -> torch.dtype:
    """Return the dtype of the next level: uint16 for integers, floating point for the base."""
    is_integer = not is_base and not exposures.is_floating_point()
    return torch.uint16 if is_integer else working_dtype(exposures)


def pyramid_reduce(
    exposures: Tensor, is_base: bool, validity: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    r"""Halve ``(B, K, C, H, W)``: :math:`J' = \mathrm{reduce}(m J) / \mathrm{reduce}(m)`.

    ``validity`` m is ``(B, K, H, W)``; reduce(m) is returned as well. Where reduce(m) is 0 the
    result is 0. The result has the dtype :func:`reduced_dtype` and is scaled to its range.
    """
    dtype = reduced_dtype(exposures, is_base)
    images = exposures.to(working_dtype(exposures))
    if validity is None:
        coarse, coarse_validity = reduce(images), None
    else:
        m = validity.to(images.dtype)
        coarse_validity = reduce(m)
        coarse = _ratio(reduce(_masked(images, m)), coarse_validity.unsqueeze(2))
    # An integer scale is exact; a scale below 1 is not, so the image is divided instead.
    scale = highest_value(dtype) / highest_value(exposures.dtype)
    coarse = coarse * scale if scale >= 1 else coarse / highest_value(exposures.dtype)
    return stored(coarse, dtype), coarse_validity


def exposure_pyramid(
    exposures: Tensor, levels: int, valid: Tensor | None = None
) -> ExposurePyramid:
    """See :func:`fastmef.functional.exposure_pyramid`."""
    return build_pyramid(exposures, levels, valid, pyramid_reduce)


def build_pyramid(
    exposures: Tensor,
    levels: int,
    valid: Tensor | None,
    reduce_level: Callable[[Tensor, bool, Tensor | None], tuple[Tensor, Tensor | None]],
) -> ExposurePyramid:
    """Halve ``levels`` times with ``reduce_level``: :func:`pyramid_reduce` or a faster version."""
    validity = None if valid is None else effective_validity(valid)
    if levels == 0:
        dtype = working_dtype(exposures)
        base_validity = () if validity is None else (validity.to(dtype),)
        return ExposurePyramid(unit_range(exposures, dtype), validity=base_validity)
    images = [exposures]
    validities: list[Tensor] = []
    for level in range(1, levels + 1):
        coarse, validity = reduce_level(images[-1], level == levels, validity)
        images.append(coarse)
        if validity is not None:
            validities.append(validity)
    return ExposurePyramid(images[-1], tuple(images[1:-1]), tuple(validities))


def resample_base(
    images: Tensor, validity: Tensor | None, size: Sequence[int], resample: Resample
) -> tuple[Tensor, Tensor | None]:
    """Resample ``(..., C, h, w)`` and its validity ``(..., h, w)``.

    Pixels are weighted by the validity, as in :func:`pyramid_reduce`.
    """
    if images.shape[-2:] == tuple(size):
        return images, validity
    if validity is None:
        return resample(images, size), None
    resampled = resample(validity, size)
    return _ratio(resample(_masked(images, validity), size), resampled.unsqueeze(-3)), resampled


def validity_of_levels(
    valid: Tensor | None, pyramid: ExposurePyramid, levels: int
) -> list[Tensor | None]:
    """Return the validity of all ``levels + 1`` levels, finest first."""
    if valid is None:
        return [None] * (levels + 1)
    if levels == 0:
        return [*pyramid.validity]
    return [effective_validity(valid), *pyramid.validity]


def unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``images`` in ``dtype``, integers scaled to [0, 1]."""
    highest = highest_value(images.dtype)
    return images.to(dtype) if highest == 1 else images.to(dtype) / highest


def base_logits(logits: Tensor, shares: Tensor | None, validity: Tensor | None) -> Tensor:
    """Add the logarithms of shares ``(B, K)`` and validity ``(B, K, h, w)`` to the logits.

    Shares are ignored at pixels where all valid exposures have a share of 0.
    """
    if validity is not None:
        validity = validity.to(logits.dtype)
        logits = logits + validity.log()
    if shares is None:
        return logits
    share = shares.to(logits.dtype)[:, :, None, None]
    weight = share if validity is None else share * validity
    counts = (weight > 0).any(dim=1, keepdim=True)
    return logits + torch.where(counts, share, torch.ones_like(share)).log()


def band_weights(
    images: Tensor, shares: Tensor | None, radius: int, floor: float, validity: Tensor | None
) -> Tensor:
    r"""Compute weights γ ``(B, K, H, W)`` of images ``(B, K, C, H, W)`` in [0, 1].

    .. math:: \gamma_k = a_k / \textstyle\sum_j a_j, \qquad a_k = s_k m_k (v_k + \mathrm{floor})^2

    with the variance v of luma (of the mean over channels unless there are three) in a flat window
    of ``2 radius + 1`` pixels. Border pixels are repeated, and the validity m weights the pixels of
    the window.
    """
    if validity is not None:
        images = torch.where(validity.unsqueeze(2) > 0, images, 0)
    gray = rgb_to_gray(images) if images.shape[2] == 3 else images.mean(dim=2)
    activity = (_variance(gray, radius, validity) + floor).square()
    if validity is not None:
        activity = activity * validity
    if shares is not None:
        shared = activity * shares.to(activity.dtype)[:, :, None, None]
        counts = (shared > 0).any(dim=1, keepdim=True)
        activity = torch.where(counts, shared, activity)
    return activity / activity.sum(dim=1, keepdim=True)


def compress_overshoot(images: Tensor, knee: Knee | None) -> Tensor:
    r"""Compress values near and outside 0 and 1 smoothly into [0, 1].

    .. math:: y = \min(x, 1 + h) - t^2 / (4 h), \qquad t = \min(\max(x - 1 + h, 0), 2 h)

    with h = high near 1, and the same with low, mirrored, near 0. Values in [low, 1 − high] do not
    change.
    """
    if knee is None:
        return images
    low, high = knee
    above = (images - (1 - high)).clamp(0, 2 * high)
    below = (low - images).clamp(0, 2 * low)
    clamped = images.clamp(-low, 1 + high)
    return clamped - above.square() / (4 * high) + below.square() / (4 * low)


def finished(fused: Tensor, exposures: Tensor, knee: Knee | None) -> Tensor:
    """Compress ``fused`` into [0, 1] and return it in the dtype and layout of ``exposures``."""
    return stored_like(compress_overshoot(fused, knee) * highest_value(exposures.dtype), exposures)


def blend_band(
    fine: Tensor,
    coarse: Tensor,
    fused_coarse: Tensor,
    shares: Tensor | None,
    validity: Tensor | None,
    coarse_validity: Tensor | None,
    options: BandOptions,
) -> Tensor:
    r"""Compute one level: :math:`F = E(F') + c \sum_k \gamma_k (J_k - E(J'_k))` with E = expand.

    ``fine`` J is ``(B, K, C, H, W)``, ``coarse`` J' is its next level and ``fused_coarse`` F' the
    fused image of that level. If these have the size of ``fine`` already, E is the identity. At the
    ``finest`` level overshoot is compressed, and the result has the dtype and layout of ``fine``;
    at other levels it is floating point.
    """
    dtype = working_dtype(fine, coarse, fused_coarse)
    size = fine.shape[-2:]
    enlarged = expand if coarse.shape[-2:] != size else _unchanged
    images, low = unit_range(fine, dtype), unit_range(coarse, dtype)
    m = None if validity is None else validity.to(dtype)
    weights = band_weights(images, shares, options.radius, options.floor, m)
    if m is None or coarse_validity is None:
        below = enlarged(low, size)
    else:
        coarse_m = coarse_validity.to(dtype)
        total = enlarged(coarse_m, size).unsqueeze(2)
        below = _ratio(enlarged(_masked(low, coarse_m), size), total)
        images = torch.where(m.unsqueeze(2) > 0, images, below)
    detail = (weights.unsqueeze(2) * (images - below)).sum(dim=1)
    fused = enlarged(fused_coarse.to(dtype), size) + options.contrast * detail
    return finished(fused, fine, options.knee) if options.finest else fused


def blend_base(
    band: Callable[..., Tensor],
    coarsest: Tensor,
    base: Tensor,
    fused: Tensor,
    shares: Tensor | None,
    validity: Tensor | None,
    base_validity: Tensor | None,
    options: BandOptions,
) -> Tensor:
    """Enlarge the ``fused`` base to the ``coarsest`` level, and add the band between the two.

    ``base`` holds the exposures in the size of ``fused``; ``band`` is :func:`blend_band` or a
    faster version.
    """
    size = coarsest.shape[-2:]
    below, below_validity = resample_base(base, base_validity, size, enlarge)
    enlarged = enlarge(fused, size)
    return band(coarsest, below, enlarged, shares, validity, below_validity, options)


def multiscale_fuse(
    logits: Tensor | None,
    exposures: Tensor,
    levels: int,
    *,
    base: Tensor | None = None,
    pyramid: ExposurePyramid | None = None,
    shares: Tensor | None = None,
    contrast: float | Tensor | Sequence[float | Tensor] = 1.0,
    radius: int = RADIUS,
    floor: float = FLOOR,
    knee: Knee | None = KNEE,
    valid: Tensor | None = None,
    fuse: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = softmax_fuse,
    band: Callable[..., Tensor] = blend_band,
) -> Tensor:
    """See :func:`fastmef.functional.multiscale_fuse`.

    ``fuse`` and ``band`` are :func:`softmax_fuse` and :func:`blend_band`, or faster versions.
    """
    if pyramid is None:
        pyramid = exposure_pyramid(exposures, levels, valid)
    contrasts = list(contrast) if isinstance(contrast, Sequence) else [contrast] * (levels + 1)
    stacks = [exposures, *pyramid.inner, pyramid.base]
    validities = validity_of_levels(valid, pyramid, levels)
    given = logits if base is None else base
    assert given is not None
    size = given.shape[-2:]
    dtype = working_dtype(given, pyramid.base)
    small, small_validity = resample_base(pyramid.base, validities[-1], size, shrink)
    if base is None:
        base = fuse(base_logits(given.to(dtype), shares, small_validity), small)[0]
    fused = base.to(dtype)
    if small is not pyramid.base:
        options = BandOptions(radius, floor, contrasts[levels])
        given_below = small, fused, shares, validities[-1], small_validity
        fused = blend_base(band, pyramid.base, *given_below, options)
    if levels == 0:
        return finished(fused, exposures, knee)
    low, high = knee or (0.0, 0.0)
    for level in range(levels - 1, -1, -1):
        options = BandOptions(radius, floor, contrasts[level], level == 0, low, high)
        images, masks = stacks[level : level + 2], validities[level : level + 2]
        fused = band(*images, fused, shares, *masks, options)
    return fused


def _unchanged(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return the images, which have the ``size`` already."""
    return images


def _masked(images: Tensor, validity: Tensor) -> Tensor:
    """Return ``validity * images``, and 0 where the validity is 0 even if the image is NaN."""
    m = validity.unsqueeze(-3)
    return torch.where(m > 0, m * images, torch.zeros_like(images))


def _ratio(total: Tensor, weight: Tensor) -> Tensor:
    """Return ``total / weight``, and 0 where the weight is 0."""
    return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1), 0)


def _box(images: Tensor, radius: int) -> Tensor:
    """Return the mean over windows of ``2 radius + 1`` pixels with repeated border pixels."""
    padded = repeat_border(images, radius, radius, radius, radius)
    return window_filter(padded, 2 * radius + 1, None)


def _variance(gray: Tensor, radius: int, validity: Tensor | None) -> Tensor:
    """Return the variance of ``(B, K, H, W)`` in each window, not below 0."""
    # A constant is subtracted because differences of large squares would lose precision. It does
    # not depend on the image, so that a strip of rows has the variances of the whole image.
    centred = gray - 0.5
    if validity is None:
        return (_box(centred.square(), radius) - _box(centred, radius).square()).clamp_min(0)
    weight = _box(validity, radius)
    mean = _ratio(_box(validity * centred, radius), weight)
    second = _ratio(_box(validity * centred.square(), radius), weight)
    return (second - mean.square()).clamp_min(0)
