r"""Blend one band of multiscale_fuse.

.. math::
    F = E(F') + c \sum_k \gamma_k (J_k - E(J'_k)), \qquad
    \gamma_k = a_k / \textstyle\sum_j a_j

with E the bilinear expansion of the next level and a from :mod:`.activity`. If the next level has
the same size, E is the identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from ..common.tiles import locate, stored
from ..common.windows import row_at

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


@triton.jit
def _between(i, size):
    """Return the coarse pixel that contains a fine position, and its nearer neighbour."""
    own = i // 2
    other = tl.where(i % 2 == 1, own + 1, own - 1)
    return own, tl.minimum(tl.maximum(other, 0), size - 1)


@triton.jit
def _expanded(plane, own_row, other_row, own, other, row_stride, column_stride, inside):
    """Return bilinear values of a coarse plane, with weights 3/4 (own) and 1/4 along each axis."""
    upper = row_at(plane, own_row, own, row_stride, column_stride)
    near = 0.75 * tl.load(upper, mask=inside, other=0).to(tl.float32)
    upper = row_at(plane, own_row, other, row_stride, column_stride)
    near += 0.25 * tl.load(upper, mask=inside, other=0).to(tl.float32)
    lower = row_at(plane, other_row, own, row_stride, column_stride)
    far = 0.75 * tl.load(lower, mask=inside, other=0).to(tl.float32)
    lower = row_at(plane, other_row, other, row_stride, column_stride)
    far += 0.25 * tl.load(lower, mask=inside, other=0).to(tl.float32)
    return 0.75 * near + 0.25 * far


@triton.jit
def _next_level(
    plane, own_row, other_row, own, other, row_stride, column_stride, inside, SAME: tl.constexpr
):
    """Return the next level at the size of this one."""
    if SAME:
        at = row_at(plane, own_row, own, row_stride, column_stride)
        return tl.load(at, mask=inside, other=0).to(tl.float32)
    return _expanded(plane, own_row, other_row, own, other, row_stride, column_stride, inside)


@triton.jit
def _clamp(x, most):
    """Clamp x to [0, most]."""
    return tl.minimum(tl.maximum(x, 0.0), most)


_COARSE = ("coarse_column", "fused_coarse_column")
_PLANAR = ("fine_column", *_COARSE, "fused_column")
_VECTORS = ("fine", "activity", "fused", "slope", "width", "pixels")
_VECTORS += tuple(f"fine_{x}" for x in ("batch", "layer", "channel", "row"))
_VECTORS += tuple(f"fused_{x}" for x in ("batch", "channel", "row"))
LAYOUTS = {
    "vectors": Layout(_PLANAR, _VECTORS),
    "planar": Layout(_PLANAR),
    "channels last": Layout(("fine_channel", *_COARSE, "fused_channel")),
    "any strides": Layout(),
}


@compiled_for(*LAYOUTS.values())
def blend_kernel(
    fine,
    coarse,
    fused_coarse,
    activity,
    fused,
    slope,  # or None
    height,
    width,
    pixels,
    fine_scale,
    coarse_scale,
    unit,
    contrast,
    low,
    high,
    fine_batch,
    fine_layer,
    fine_channel,
    fine_row,
    fine_column,
    coarse_batch,
    coarse_layer,
    coarse_channel,
    coarse_row,
    coarse_column,
    fused_coarse_batch,
    fused_coarse_channel,
    fused_coarse_row,
    fused_coarse_column,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COMPRESS: tl.constexpr,
    SAME: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute COLUMNS pixels of a row of F."""
    b, y, first = locate(tl.program_id(0), width, height, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < width
    own_row, other_row = y, y
    own, other = x, x
    if not SAME:
        own_row, other_row = _between(y, (height + 1) // 2)
        own, other = _between(x, (width + 1) // 2)

    at = activity + b * K * pixels + y * width + x
    weights = ()
    total = tl.zeros((COLUMNS,), tl.float32)
    for _ in tl.static_range(K):
        weight = tl.load(at, mask=inside, other=1)
        total += weight
        weights = weights + (weight,)
        at += pixels
    inverse = contrast / total

    fine += b * fine_batch
    coarse += b * coarse_batch
    fused_coarse += b * fused_coarse_batch
    fused += b * fused_batch + y * fused_row
    here = b * C * pixels + y * width + x
    for _ in tl.static_range(C):
        detail = tl.zeros((COLUMNS,), tl.float32)
        image = row_at(fine, y, x, fine_row, fine_column)
        below = coarse
        for k in tl.static_range(K):
            value = fine_scale * tl.load(image, mask=inside, other=0).to(tl.float32)
            value -= coarse_scale * _next_level(
                below, own_row, other_row, own, other, coarse_row, coarse_column, inside, SAME
            )
            detail += weights[k] * value
            image += fine_layer
            below += coarse_layer
        result = detail * inverse + unit * _next_level(
            fused_coarse,
            own_row,
            other_row,
            own,
            other,
            fused_coarse_row,
            fused_coarse_column,
            inside,
            SAME,
        )
        if COMPRESS:
            above = _clamp(result - (unit - high), 2 * high)
            under = _clamp(low - result, 2 * low)
            if slope is not None:
                value = (1 - above / (2 * high)) * (1 - under / (2 * low))
                tl.store(slope + here, value, mask=inside)
                here += pixels
            # A comparison with NaN is false, so NaN is kept.
            result = tl.where(result > unit + high, unit + high, result)
            result = tl.where(result < -low, -low, result)
            result += under * under / (4 * low) - above * above / (4 * high)
        tl.store(fused + x * fused_column, stored(result, fused.dtype.element_ty), mask=inside)
        fine += fine_channel
        coarse += coarse_channel
        fused_coarse += fused_coarse_channel
        fused += fused_channel


def columns_for(count: int) -> int:
    """Return the columns of a program of ``blend_kernel``. Not timed on a GPU."""
    return 256 if count <= 4 else 128


def blend(
    fine: Tensor,
    coarse: Tensor,
    fused_coarse: Tensor,
    activity: Tensor,
    fused: Tensor,
    slope: Tensor | None,
    scales: tuple[float, float, float],
    contrast: float,
    knee: tuple[float, float] | None,
    same_size: bool,
) -> None:
    """Fill ``fused`` and ``slope``, which is contiguous or ``None``.

    ``activity`` is contiguous ``(B, K, H, W)`` float32. ``scales`` are the factors from the fine
    level and the next one to the range of ``fused``, and the value that represents 1 there.
    """
    batch, count, channels, height, width = fine.shape
    low, high = knee or (0.0, 0.0)
    columns = columns_for(count)
    launch(
        blend_kernel,
        batch * height * cdiv(width, columns),
        fine.device,
        fine,
        coarse,
        fused_coarse,
        activity,
        fused,
        slope,
        height,
        width,
        height * width,
        *scales,
        contrast,
        low * scales[2],
        high * scales[2],
        *fine.stride(),
        *coarse.stride(),
        *fused_coarse.stride(),
        *fused.stride(),
        K=count,
        C=channels,
        COMPRESS=knee is not None,
        SAME=same_size,
        COLUMNS=columns,
        num_warps=WARPS,
    )
