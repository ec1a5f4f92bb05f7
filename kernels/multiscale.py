r"""The sweeps of multiscale_fuse: levels of a Gaussian pyramid, and bands weighted by variance.

.. math::
    F = E(F') + c \sum_k \gamma_k (J_k - E(J'_k)), \qquad
    \gamma_k = a_k / \textstyle\sum_j a_j, \qquad a_k = s_k (v_k + \mathrm{floor})^2

``reduce_kernel`` makes a level from the finer one. A band takes two kernels: ``activity_kernel``
marches down strips of one exposure and writes a, ``blend_kernel`` mixes the exposures of a pixel.
``blend_backward_kernel`` is the adjoint of E, which gathers and needs no atomics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ._configure import configuration
from ._launch import BYTES, BYTES_ON_THE_WAY, MANY_MAPS, SINGLE_VALUES, Configuration, cdiv, launch
from ._tile import locate, stored
from ._windows import COLUMNS, locate_strip, row_at, strip_programs, strip_rows, zero_rows

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4
GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
# A window's rows are held in registers.
LARGEST_RADIUS = 7


@triton.jit
def _between(i, size):
    """The coarse neighbours of a fine position: its own, and the nearer one beside it."""
    own = i // 2
    other = tl.where(i % 2 == 1, own + 1, own - 1)
    return own, tl.minimum(tl.maximum(other, 0), size - 1)


@triton.jit
def _expanded(plane, own_row, other_row, own, other, row_stride, column_stride, inside):
    """Bilinear values of a coarse plane: 3/4 for the own row and column, 1/4 for the others."""
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
def reduce_kernel(
    fine,
    coarse,
    height,
    width,
    scale,
    fine_batch,
    fine_layer,
    fine_channel,
    fine_row,
    fine_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = (height + 1) // 2
    columns = (width + 1) // 2
    plane, y, first = locate(tl.program_id(0), columns, rows, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < columns
    fine += (plane // (K * C)) * fine_batch
    fine += (plane // C % K) * fine_layer + (plane % C) * fine_channel
    total = tl.zeros((COLUMNS,), tl.float32)
    for i in tl.static_range(4):
        row = tl.minimum(tl.maximum(2 * y - 1 + i, 0), height - 1)
        line = tl.zeros((COLUMNS,), tl.float32)
        for j in tl.static_range(4):
            column = tl.minimum(tl.maximum(2 * x - 1 + j, 0), width - 1)
            at = row_at(fine, row, column, fine_row, fine_column)
            value = tl.load(at, mask=inside, other=0).to(tl.float32)
            line += value if j == 0 or j == 3 else 3 * value
        total += line if i == 0 or i == 3 else 3 * line
    # Sums of integers are exact, and so is their product with a scale of a power of two.
    to = coarse + (plane * rows + y) * columns + x
    tl.store(to, stored(total * scale, coarse.dtype.element_ty), mask=inside)


@triton.jit
def _gray(
    pointer,
    row,
    column,
    row_stride,
    column_stride,
    channel_stride,
    C: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
):
    """Luma of three channels, else their mean, in storage units."""
    at = row_at(pointer, row, column, row_stride, column_stride)
    total = tl.load(at).to(tl.float32)
    if C == 3:
        total = RED * total
        at += channel_stride
        total += GREEN * tl.load(at).to(tl.float32)
        # Step by step: 2 * channel_stride may not fit 32 bits.
        at += channel_stride
        total += BLUE * tl.load(at).to(tl.float32)
        return total
    for _ in tl.static_range(C - 1):
        at += channel_stride
        total += tl.load(at).to(tl.float32)
    return total / C


@triton.jit
def activity_kernel(
    fine,
    shares,
    activity,
    height,
    width,
    rows,
    scale,
    floor,
    fine_batch,
    fine_layer,
    fine_channel,
    fine_row,
    fine_column,
    K: tl.constexpr,
    C: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    RADIUS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = 2 * RADIUS + 1
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    fine += (plane // K) * fine_batch + (plane % K) * fine_layer
    share = 1.0
    if shares is not None:
        share = tl.load(shares + plane)
    to = activity + plane * height * width + column
    # Rows of (mean, sum of squared deviations), both around the pixel in the middle: rounding is
    # relative to the variance itself.
    ring = zero_rows(2 * size, COLUMNS)
    for row in range(first - RADIUS, end + RADIUS):
        y = tl.minimum(tl.maximum(row, 0), height - 1)
        x = tl.minimum(column, width - 1)
        middle = _gray(fine, y, x, fine_row, fine_column, fine_channel, C, RED, GREEN, BLUE)
        sums = tl.zeros((COLUMNS,), tl.float32)
        squares = tl.zeros((COLUMNS,), tl.float32)
        for j in tl.static_range(size):
            if j != RADIUS:
                x = tl.minimum(tl.maximum(column + (j - RADIUS), 0), width - 1)
                gray = _gray(fine, y, x, fine_row, fine_column, fine_channel, C, RED, GREEN, BLUE)
                d = gray - middle
                sums += d
                squares += d * d
        pushed = ()
        for k in tl.static_range(size - 1):
            pushed = pushed + (ring[k + 1],)
        pushed = pushed + (middle + sums / size,)
        for k in tl.static_range(size - 1):
            pushed = pushed + (ring[size + k + 1],)
        ring = pushed + (squares - sums * sums / size,)
        done = row - RADIUS
        if done >= first:
            sums = tl.zeros((COLUMNS,), tl.float32)
            squares = tl.zeros((COLUMNS,), tl.float32)
            within = tl.zeros((COLUMNS,), tl.float32)
            for j in tl.static_range(size):
                d = ring[j] - ring[RADIUS]
                sums += d
                squares += d * d
                within += ring[size + j]
            variance = (within / size + (squares - sums * sums / size)) / size
            variance *= scale * scale
            # A comparison with NaN is false: NaN stays.
            deviation = tl.where(variance < 0, 0.0, variance) + floor
            value = share * (deviation * deviation)
            tl.store(to + tl.cast(done, tl.int64) * width, value, mask=inside)


@triton.jit
def _within(x, most):
    return tl.minimum(tl.maximum(x, 0.0), most)


@triton.jit
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
    below_batch,
    below_channel,
    below_row,
    below_column,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    C: tl.constexpr,
    BENDS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    b, y, first = locate(tl.program_id(0), width, height, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < width
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
    fused_coarse += b * below_batch
    fused += b * fused_batch + y * fused_row
    here = b * C * pixels + y * width + x
    for _ in tl.static_range(C):
        detail = tl.zeros((COLUMNS,), tl.float32)
        image = row_at(fine, y, x, fine_row, fine_column)
        below = coarse
        for k in tl.static_range(K):
            value = fine_scale * tl.load(image, mask=inside, other=0).to(tl.float32)
            value -= coarse_scale * _expanded(
                below, own_row, other_row, own, other, coarse_row, coarse_column, inside
            )
            detail += weights[k] * value
            image += fine_layer
            below += coarse_layer
        result = detail * inverse + unit * _expanded(
            fused_coarse, own_row, other_row, own, other, below_row, below_column, inside
        )
        if BENDS:
            above = _within(result - (unit - high), 2 * high)
            under = _within(low - result, 2 * low)
            if slope is not None:
                value = (1 - above / (2 * high)) * (1 - under / (2 * low))
                tl.store(slope + here, value, mask=inside)
                here += pixels
            # A comparison with NaN is false: NaN stays.
            result = tl.where(result > unit + high, unit + high, result)
            result = tl.where(result < -low, -low, result)
            result += under * under / (4 * low) - above * above / (4 * high)
        tl.store(fused + x * fused_column, stored(result, fused.dtype.element_ty), mask=inside)
        fine += fine_channel
        coarse += coarse_channel
        fused_coarse += below_channel
        fused += fused_channel


@triton.jit
def _share(step: tl.constexpr, coarse, coarse_size, fine_position, size):
    """The weight of a coarse position in the ``step``-th of its four fine ones."""
    share = 0.25 if step == 0 or step == 3 else 0.75
    # A border pixel also stands in for the one beyond it.
    repeated = ((coarse == 0) & (fine_position == 0)) | (
        (coarse == coarse_size - 1) & (fine_position == 2 * coarse_size - 1)
    )
    there = (fine_position >= 0) & (fine_position < size)
    return tl.where(there, tl.where(repeated, 1.0, share), 0.0)


@triton.jit
def blend_backward_kernel(
    grad,
    slope,  # contiguous, or None
    grad_coarse,
    height,
    width,
    grad_batch,
    grad_channel,
    grad_row,
    grad_column,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = (height + 1) // 2
    columns = (width + 1) // 2
    plane, y, first = locate(tl.program_id(0), columns, rows, COLUMNS)
    x = first + tl.arange(0, COLUMNS)
    inside = x < columns
    grad += (plane // C) * grad_batch + (plane % C) * grad_channel
    total = tl.zeros((COLUMNS,), tl.float32)
    for i in tl.static_range(4):
        row = 2 * y - 1 + i
        line = tl.zeros((COLUMNS,), tl.float32)
        clamped_row = tl.minimum(tl.maximum(row, 0), height - 1)
        for j in tl.static_range(4):
            column = 2 * x - 1 + j
            clamped = tl.minimum(tl.maximum(column, 0), width - 1)
            at = row_at(grad, clamped_row, clamped, grad_row, grad_column)
            value = tl.load(at, mask=inside, other=0).to(tl.float32)
            if slope is not None:
                at = slope + (plane * height + clamped_row) * width + clamped
                value *= tl.load(at, mask=inside, other=0)
            share = _share(j, x, columns, column, width)
            line += tl.where(share > 0, share * value, 0.0)
        share = _share(i, y, rows, row, height)
        total += tl.where(share > 0, share * line, 0.0)
    tl.store(grad_coarse + (plane * rows + y) * columns + x, total, mask=inside)


def _columns(count: int) -> int:
    """Columns of a program of ``blend_kernel``. Not timed on a GPU."""
    return 256 if count <= 4 else 128


def reduce(fine: Tensor, coarse: Tensor, scale: float) -> None:
    """Fills ``coarse``, contiguous; a value is ``scale`` times the mean of the window."""
    batch, count, channels, height, width = fine.shape
    rows, columns = coarse.shape[-2:]
    launch(
        reduce_kernel,
        batch * count * channels * rows * cdiv(columns, 256),
        fine.device,
        fine,
        coarse,
        height,
        width,
        scale / 64,
        *fine.stride(),
        K=count,
        C=channels,
        COLUMNS=256,
        num_warps=WARPS,
    )


def blend(
    fine: Tensor,
    coarse: Tensor,
    fused_coarse: Tensor,
    shares: Tensor | None,
    activity: Tensor,
    fused: Tensor,
    slope: Tensor | None,
    scales: tuple[float, float, float],
    radius: int,
    floor: float,
    contrast: float,
    knee: tuple[float, float] | None,
) -> None:
    """Fills ``fused`` and, contiguous, ``slope``.

    ``activity`` is memory for ``(B, K, H, W)`` float32. ``scales`` are of the fine level and the
    next one, to the range of ``fused``, and the number that stands for 1 there.
    """
    batch, count, channels, height, width = fine.shape
    planes, to_unit = batch * count, scales[0] / scales[2]
    rows = strip_rows(planes, height, width)
    launch(
        activity_kernel,
        strip_programs(planes, height, width, rows),
        fine.device,
        fine,
        shares,
        activity,
        height,
        width,
        rows,
        to_unit,
        floor,
        *fine.stride(),
        K=count,
        C=channels,
        RED=GRAY[0],
        GREEN=GRAY[1],
        BLUE=GRAY[2],
        RADIUS=radius,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )
    low, high = knee or (0.0, 0.0)
    columns = _columns(count)
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
        BENDS=knee is not None,
        COLUMNS=columns,
        num_warps=WARPS,
    )


def blend_backward(grad: Tensor, slope: Tensor | None, grad_coarse: Tensor) -> None:
    """Fills ``grad_coarse``, contiguous."""
    batch, channels, height, width = grad.shape
    rows, columns = grad_coarse.shape[-2:]
    launch(
        blend_backward_kernel,
        batch * channels * rows * cdiv(columns, 256),
        grad.device,
        grad,
        slope,
        grad_coarse,
        height,
        width,
        *grad.stride(),
        C=channels,
        COLUMNS=256,
        num_warps=WARPS,
    )


def _types(**pointers: str) -> dict[str, str]:
    return {name: f"*{dtype}:16" for name, dtype in pointers.items()}


_FLOATS = ("scale", "floor", "fine_scale", "coarse_scale", "unit", "contrast", "low", "high")


def _configuration(
    name: str, kernel: Any, types: dict[str, str], constants: dict[str, Any], size: float, **of: Any
) -> Configuration:
    numbers = {x: "fp32" for x in _FLOATS if x in kernel.arg_names}
    return configuration(name, kernel, {**types, **numbers}, constants, size, **of)


def _reduce_configuration(dtype: str, to: str, interleaved: bool = False) -> Configuration:
    constants = {"K": 2, "C": 3, "COLUMNS": 256}
    constants |= {"fine_channel" if interleaved else "fine_column": 1}
    return _configuration(
        f"reduce, {dtype} to {to}" + (", channels last" if interleaved else ""),
        reduce_kernel,
        _types(fine=dtype, coarse=to),
        constants,
        4 * BYTES[dtype] + BYTES[to],
        resident=SINGLE_VALUES,
        pixels=256,
    )


def _activity_configuration(dtype: str, interleaved: bool = False) -> Configuration:
    colours = dict(zip(("RED", "GREEN", "BLUE"), GRAY, strict=True))
    constants = {"K": 2, "C": 3, "RADIUS": 4, "COLUMNS": COLUMNS, "shares": None, **colours}
    constants |= {"fine_channel" if interleaved else "fine_column": 1}
    return _configuration(
        f"activity, {dtype}" + (", channels last" if interleaved else ""),
        activity_kernel,
        _types(fine=dtype, activity="fp32"),
        constants,
        3 * BYTES[dtype] + 4,
        resident=MANY_MAPS,
    )


def _blend_configuration(
    fine: str, coarse: str, count: int, finest: bool = True, interleaved: bool = False
) -> Configuration:
    columns = _columns(count)
    constants: dict[str, Any] = {"K": count, "C": 3, "COLUMNS": columns, "BENDS": finest}
    constants |= {"slope": None, "coarse_column": 1, "below_column": 1}
    unit = "channel" if interleaved else "column"
    constants |= {f"fine_{unit}": 1, f"fused_{unit}": 1}
    out = fine if finest else "fp32"
    types = _types(fine=fine, coarse=coarse, fused_coarse="fp32", activity="fp32", fused=out)
    return _configuration(
        f"blend, K={count}, {fine} over {coarse}"
        + ("" if finest else ", inner")
        + (", channels last" if interleaved else ""),
        blend_kernel,
        types,
        constants,
        3 * count * (BYTES[fine] + BYTES[coarse] / 4) + 4 * count + 3 * BYTES[out] + 3,
        resident=BYTES_ON_THE_WAY if count <= 3 else MANY_MAPS,
        pixels=columns,
    )


def _backward_configuration(dtype: str, bends: bool) -> Configuration:
    constants = {"C": 3, "COLUMNS": 256, "grad_column": 1, **({} if bends else {"slope": None})}
    types = _types(grad=dtype, grad_coarse="fp32", **({"slope": "fp32"} if bends else {}))
    return _configuration(
        f"backward, {dtype}" + (", with slope" if bends else ""),
        blend_backward_kernel,
        types,
        constants,
        4 * BYTES[dtype] + 16 * bends + 4,
        resident=BYTES_ON_THE_WAY,
        pixels=256,
    )


CONFIGURATIONS = [
    _reduce_configuration("u8", "u16"),
    _reduce_configuration("u8", "u16", interleaved=True),
    *(_reduce_configuration(x, "fp32") for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_activity_configuration(x) for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    _activity_configuration("u8", interleaved=True),
    *(_blend_configuration("u8", "u16", count) for count in (2, 3, 5, 8)),
    _blend_configuration("u8", "u16", 2, interleaved=True),
    _blend_configuration("u16", "u16", 2, finest=False),
    *(_blend_configuration(x, "fp32", 2) for x in ("fp16", "bf16", "fp32")),
    *(_backward_configuration(x, True) for x in ("bf16", "fp32")),
    _backward_configuration("fp32", False),
]
