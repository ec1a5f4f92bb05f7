"""Multiscale fusion: softmax weights for the scene, the variance of luma for the detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef.errors import InputError, shown
from fastmef.functional._checks import (
    can_read,
    check_at_least,
    check_float,
    check_image,
    check_one_device,
    check_stack,
    is_number,
)
from fastmef.ops import multiscale as ops
from fastmef.reference.multiscale import FLOOR, KNEE, RADIUS, ExposurePyramid, Knee
from fastmef.reference.pyramid import halved_size, halvings_above

# The square of a smaller floor would underflow in float32.
_LOWEST_FLOOR = 1e-12


def exposure_pyramid(
    exposures: Tensor, levels: int, valid: Tensor | None = None
) -> ExposurePyramid:
    r"""Return the Gaussian pyramid of exposures, without the exposures themselves.

    .. math:: J_0 = I, \qquad J_{l+1} = \mathrm{reduce}(J_l)

    reduce takes the mean in the window [1 3 3 1]/8 of both axes around the middle of each 2×2
    block, repeats border pixels, and halves the size, rounded up.

    Args:
        exposures: ``(B, K, C, H, W)``; uint8, uint16, or floating point in [0, 1].
        levels: the number of halvings L ≥ 0, at most as many as lead to a single pixel.
        valid: bool ``(B, K, H, W)``; pixels where it is false do not enter the means. Where no
            exposure is valid, all of them count.

    Returns:
        An :class:`ExposurePyramid`: the ``base`` :math:`J_L` in [0, 1], float32 (float64 for
        float64), and the levels between, uint16 for integer exposures. With L = 0 the base is the
        exposures in floating point.

    The exposures are read once. The function is differentiable w.r.t. floating-point exposures.

    Raises:
        InputError: another shape or dtype, a number of levels out of range.

    Source: Burt, Adelson, The Laplacian Pyramid as a Compact Image Code, IEEE TCOM 31(4), 1983,
    with another window.

    Example:
        >>> pyramid = exposure_pyramid(torch.rand(1, 2, 3, 50, 33), levels=2)
        >>> pyramid.base.shape, [tuple(level.shape) for level in pyramid.inner]
        (torch.Size([1, 2, 3, 13, 9]), [(1, 2, 3, 25, 17)])
    """
    _check_exposures(exposures)
    most = (max(exposures.shape[-2:]) - 1).bit_length()
    if not isinstance(levels, int) or isinstance(levels, bool) or not 0 <= levels <= most:
        raise InputError(
            f"levels must be an integer from 0 to {most} for exposures of "
            f"{_size(exposures)} pixels, got {shown(levels)}"
        )
    _check_valid(valid, exposures)
    return ops.exposure_pyramid(exposures, levels, valid)


def multiscale_fuse(
    logits: Tensor | None,
    exposures: Tensor,
    *,
    base: Tensor | None = None,
    pyramid: ExposurePyramid | None = None,
    shares: Tensor | None = None,
    contrast: float | Tensor | Sequence[float | Tensor] = 1.0,
    radius: int = RADIUS,
    floor: float = FLOOR,
    knee: Knee | None = KNEE,
    valid: Tensor | None = None,
) -> Tensor:
    r"""Fuse exposures in a Laplacian pyramid: a softmax weights the base, local variance the bands.

    .. math::
        F_L = \sum_k \mathrm{softmax}_k(x + \log s)\, J_{L,k}, \qquad
        F_l = E(F_{l+1}) + c_l \sum_k \gamma_{l,k} \bigl(J_{l,k} - E(J_{l+1,k})\bigr)

    J is the :func:`exposure_pyramid`, E doubles the size bilinearly. The weights of a band come
    from the variance v of luma (of the mean over the channels unless there are three) in a flat
    window of :math:`2\,\mathrm{radius} + 1` pixels with border pixels repeated:

    .. math:: \gamma_k = a_k / \textstyle\sum_j a_j, \qquad a_k = s_k (v_k + \mathrm{floor})^2

    At the finest level, values outside [0, 1] are compressed instead of clipped. With h = high,

    .. math:: y = \min(x, 1 + h) - t^2 / (4 h), \qquad t = \min(\max(x - 1 + h, 0), 2 h)

    and the same, mirrored, with low near 0. Values in [low, 1 − high] do not change.

    Args:
        logits: floating point, ``(B, K, h, w)``, not larger than the exposures. L is the number of
            halvings that leave the exposures at least as large. If level L is larger than h × w,
            the base is that level resampled with a triangular window, and one more band lies
            between the two; E then enlarges the base bilinearly to level L. ``None`` if ``base`` is
            given.
        exposures: ``(B, K, C, H, W)``; uint8, uint16, or floating point in [0, 1]; planar or with
            the channels of a pixel beside each other.
        base: floating point, ``(B, C, h, w)``, taken as :math:`F_L` instead of the softmax sum.
        pyramid: the result of :func:`exposure_pyramid` for these exposures, L levels and ``valid``;
            computed here if it is not given.
        shares: s ≥ 0, floating point, ``(B, K)``, by default 1: frames that are nearly copies of
            each other share one vote. Shares of 0 are ignored where no other exposure is valid.
        contrast: c, one number for all bands or a sequence of one for each, finest first. Numbers
            may be tensors of one element that require gradients.
        radius: radius of the variance window in pixels, at least 0.
        floor: a number of at least 1e-12 that is added to the variance, so that flat areas are
            fused by a plain mean.
        knee: (low, high), how far from 0 and 1 compression begins, both positive, with
            low + high ≤ 1. ``None``: floating-point results are not limited, integers are clamped.
        valid: bool ``(B, K, H, W)``; an exposure contributes nothing where it is false. Means,
            bands and variances are normalised by the valid pixels. Where no exposure is valid, all
            of them count.

    Returns:
        F ``(B, C, H, W)`` in the dtype and layout of the exposures; integers are rounded to the
        nearest. Sums are formed in float32, in float64 where an input is float64.

    The C++ kernels read full-size exposures twice, for the next level and for the finest band (once
    if ``pyramid`` is given), and write the result once. Beside the result they allocate the
    pyramid, a third of the exposures in 16 or 32 bits a value, and the fused image of the second
    level in float32. The Triton kernels read the exposures three times and take K more float32
    values a pixel; with ``valid`` or a radius above 7, GPU tensors fall back to plain PyTorch.

    Kernels compute the gradients w.r.t. logits and base and save only the slope of the compression;
    plain PyTorch computes those w.r.t. floating-point exposures, shares and contrast. Integer
    results carry no gradient.

    Raises:
        InputError: shapes that do not fit, another dtype, two devices, options out of range.

    Source: this package, after Mertens, Kautz, Van Reeth, Exposure Fusion, Pacific Graphics 2007.

    Example:
        >>> exposures = torch.rand(1, 2, 3, 64, 48)
        >>> logits = torch.zeros(1, 2, 16, 12)
        >>> multiscale_fuse(logits, exposures).shape
        torch.Size([1, 3, 64, 48])
    """
    _check_exposures(exposures)
    small = _check_base(logits, base, exposures)
    levels = _levels(small, exposures)
    bands = levels + (halved_size(exposures.shape[-2:], levels) != tuple(small.shape[-2:]))
    _check_valid(valid, exposures)
    _check_shares(shares, exposures)
    contrasts = _contrasts(contrast, bands)
    if not isinstance(radius, int) or isinstance(radius, bool) or radius < 0:
        raise InputError(f"radius must be an integer of at least 0, got {shown(radius)}")
    check_at_least("floor", floor, _LOWEST_FLOOR)
    _check_knee(knee)
    if pyramid is None:
        pyramid = ops.exposure_pyramid(exposures, levels, valid)
    else:
        _check_pyramid(pyramid, exposures, levels, valid)
    return ops.multiscale_fuse(
        logits,
        exposures,
        levels,
        base=base,
        pyramid=pyramid,
        shares=shares,
        contrast=contrasts,
        radius=radius,
        floor=floor,
        knee=knee,
        valid=valid,
    )


def _size(images: Tensor) -> str:
    """Return height and width for a message."""
    return f"{images.shape[-2]} x {images.shape[-1]}"


def _check_exposures(exposures: Tensor) -> None:
    check_image("exposures", exposures)
    if exposures.ndim != 5 or 0 in exposures.shape:
        raise InputError(
            f"exposures must be (B, K, C, H, W) and not empty, got {tuple(exposures.shape)}"
        )


def _check_base(logits: Tensor | None, base: Tensor | None, exposures: Tensor) -> Tensor:
    """Return logits or base, whichever is given."""
    batch, count, channels = exposures.shape[:3]
    if logits is not None and base is None:
        check_stack("logits", logits)
        name, given, expected, axes = "logits", logits, (batch, count), "(B, K, h, w)"
    elif base is not None and logits is None:
        check_float("base", base)
        name, given, expected, axes = "base", base, (batch, channels), "(B, C, h, w)"
    else:
        got = "neither" if logits is None else "both"
        raise InputError(f"one of logits and base must be given, got {got}")
    if given.ndim != 4 or given.shape[:2] != expected or 0 in given.shape:
        raise InputError(
            f"{name} must be {axes}, not empty, for exposures (B, K, C, H, W), "
            f"got {tuple(given.shape)} and {tuple(exposures.shape)}"
        )
    check_one_device(name, given, "exposures", exposures)
    return given


def _levels(small: Tensor, exposures: Tensor) -> int:
    """Return the number of halvings that leave the exposures at least as large as ``small``."""
    full, size = exposures.shape[-2:], small.shape[-2:]
    if size[0] > full[0] or size[1] > full[1]:
        raise InputError(
            f"logits or base must not be larger than the exposures, {_size(exposures)} pixels, "
            f"got {_size(small)}"
        )
    return halvings_above(full, size)


def _check_valid(valid: Tensor | None, exposures: Tensor) -> None:
    if valid is None:
        return
    shape = exposures.shape[:2] + exposures.shape[3:]
    if not isinstance(valid, Tensor) or valid.dtype != torch.bool or valid.shape != shape:
        got = f"{valid.dtype} {tuple(valid.shape)}" if isinstance(valid, Tensor) else shown(valid)
        raise InputError(f"valid must be bool {tuple(shape)}, got {got}")
    check_one_device("valid", valid, "exposures", exposures)


def _check_shares(shares: Tensor | None, exposures: Tensor) -> None:
    if shares is None:
        return
    check_float("shares", shares)
    if shares.shape != exposures.shape[:2]:
        raise InputError(
            f"shares must be (B, K) = {tuple(exposures.shape[:2])}, got {tuple(shares.shape)}"
        )
    check_one_device("shares", shares, "exposures", exposures)
    if not can_read(shares):
        return
    if not bool(((shares >= 0) & shares.isfinite()).all() and (shares > 0).any(dim=1).all()):
        raise InputError(
            "shares must be finite and at least 0, with one above 0 in each bracket, "
            f"got {shares.tolist()}"
        )


def _contrasts(
    contrast: float | Tensor | Sequence[float | Tensor], bands: int
) -> tuple[float | Tensor, ...]:
    """Return one number for each band, finest first."""
    several = isinstance(contrast, Sequence) and not isinstance(contrast, str)
    given: Sequence[Any] = contrast if several else [contrast] * bands  # type: ignore[assignment]
    if len(given) != bands:
        raise InputError(
            f"contrast must be one number or one for each of {bands} bands, got {len(given)}"
        )
    for value in given:
        if isinstance(value, Tensor):
            check_float("contrast", value)
            if value.numel() != 1:
                raise InputError(f"contrast must have one element, got {tuple(value.shape)}")
        elif not is_number(value):
            raise InputError(f"contrast must be a finite number, got {shown(value)}")
    return tuple(given)


def _check_knee(knee: Knee | None) -> None:
    if knee is None:
        return
    pair: tuple[Any, ...] = tuple(knee) if isinstance(knee, Sequence) else ()
    numbers = len(pair) == 2 and all(map(is_number, pair))
    if not numbers or min(pair) <= 0 or sum(pair) > 1:
        raise InputError(
            f"knee must be (low, high), both positive, sum at most 1, got {shown(knee)}"
        )


def _check_pyramid(
    pyramid: ExposurePyramid, exposures: Tensor, levels: int, valid: Tensor | None
) -> None:
    """Refuse a pyramid whose levels do not fit the exposures."""
    if not isinstance(pyramid, ExposurePyramid):
        raise InputError(f"pyramid must come from exposure_pyramid, got {shown(pyramid)}")
    shapes = [tuple(x.shape) for x in (*pyramid.inner, pyramid.base)]
    full = exposures.shape[-2:]
    expected = [
        (*exposures.shape[:3], *halved_size(full, n)) for n in range(min(1, levels), levels + 1)
    ]
    if shapes != expected:
        raise InputError(f"pyramid must hold levels of the shapes {expected}, got {shapes}")
    if (valid is None) != (not pyramid.validity):
        raise InputError("pyramid must be made with the same valid that is given here")
