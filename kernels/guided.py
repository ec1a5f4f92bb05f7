r"""guided_upsample_fuse at full size: a guide, and the fusion by lines over it.

.. math::
    g = \tfrac1K \sum_k Y(I_k), \quad x_k = a_k g + b_k, \quad
    F = \sum_k \mathrm{softmax}_k(x)\, I_k

with a and b of a smaller size, enlarged bilinearly (pixel centres, edges repeated). The first
kernel averages g over the pixels of each small one. In the second a program owns all rows between
two rows of a and b, which it reads and filters along x once. Positions are exact: integers, divided
once. Small images of any size at most that of the exposures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ._launch import BYTES, BYTES_ON_THE_WAY, MANY_MAPS, SINGLE_VALUES, Configuration, cdiv, launch
from ._tile import stored

if TYPE_CHECKING:
    from torch import Tensor

SMALL_COLUMNS = 128
WARPS = 4


def _tile_size(count: int) -> tuple[int, int]:
    """Exposures padded to a power of two, and columns of a program."""
    lines = 1 << (count - 1).bit_length()
    return lines, max(32, min(256, 1024 // lines))


@triton.jit
def _load_colours(at, channel_stride, mask):
    red = tl.load(at, mask=mask, other=0).to(tl.float32)
    # Step by step: 2 * channel_stride may not fit 32 bits.
    at += channel_stride
    green = tl.load(at, mask=mask, other=0).to(tl.float32)
    at += channel_stride
    return red, green, tl.load(at, mask=mask, other=0).to(tl.float32)


@triton.jit(do_not_specialize=["height", "width", "rows", "columns", "most"])
def guide_kernel(
    exposures,
    guide,
    height,
    width,
    rows,
    columns,
    most,
    batch_stride,
    layer_stride,
    channel_stride,
    row_stride,
    column_stride,
    K: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    blocks = (columns - 1) // COLUMNS + 1
    line = (tl.program_id(0) // blocks).to(tl.int64)
    small = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)
    row = line % rows
    left = small * width // columns
    right = ((small + 1) * width - 1) // columns + 1
    top = row * height // rows
    bottom = ((row + 1) * height - 1) // rows + 1
    exposures += (line // rows) * batch_stride
    total = tl.zeros((COLUMNS,), tl.float32)
    for y in range(top, bottom):
        for step in range(most):
            x = left + step
            there = (x < right) & (small < columns)
            layer = exposures + tl.cast(y, tl.int64) * row_stride + x * column_stride
            for _ in tl.static_range(K):
                red, green, blue = _load_colours(layer, channel_stride, there)
                total += RED * red + GREEN * green + BLUE * blue
                layer += layer_stride
    mean = total / ((bottom - top) * (right - left)).to(tl.float32)
    tl.store(guide + line * columns + small, mean, mask=small < columns)


@triton.jit
def _between(image, left, right, share, present):
    """Values of a small row at full-size columns."""
    a = tl.load(image + left, mask=present, other=0)
    b = tl.load(image + right, mask=present, other=0)
    return a + share * (b - a)


@triton.jit
def _first_row(interval, height, rows):
    """The first full-size row that lies at or below the centre of a small row."""
    start = (height * (2 * interval + 1) - rows + 2 * rows - 1) // (2 * rows)
    return tl.where(interval < 0, 0, tl.where(interval < rows, start, height))


@triton.jit(do_not_specialize=["height", "width", "rows", "columns"])
def fuse_kernel(
    slopes,
    offsets,
    exposures,
    fused,
    height,
    width,
    rows,
    columns,
    batch_stride,
    layer_stride,
    channel_stride,
    row_stride,
    column_stride,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    RED: tl.constexpr,
    GREEN: tl.constexpr,
    BLUE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    blocks = (width - 1) // COLUMNS + 1
    strip = (tl.program_id(0) // blocks).to(tl.int64)
    batch = strip // (rows + 1)
    interval = strip % (rows + 1) - 1
    x = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    line = tl.arange(0, LINES).to(tl.int64)[:, None]
    inside = x < width
    present = inside & (line < K)

    place = (2 * x + 1) * columns + width
    left = place // (2 * width) - 1
    share = (place - (left + 1) * 2 * width).to(tl.float32) / (2 * width).to(tl.float32)
    right = tl.minimum(left + 1, columns - 1)
    left = tl.maximum(left, 0)
    plane = (batch * K + line) * rows
    upper = (plane + tl.maximum(interval, 0)) * columns
    lower = (plane + tl.minimum(interval + 1, rows - 1)) * columns
    slope = _between(slopes + upper, left, right, share, present)
    slope_change = _between(slopes + lower, left, right, share, present) - slope
    offset = _between(offsets + upper, left, right, share, present)
    offset_change = _between(offsets + lower, left, right, share, present) - offset

    exposures += batch * batch_stride + line * layer_stride + x * column_stride
    fused += batch * fused_batch + x * fused_column
    dtype: tl.constexpr = fused.dtype.element_ty
    for y in range(_first_row(interval, height, rows), _first_row(interval + 1, height, rows)):
        # A loop of the interpreter counts in plain numbers.
        y = tl.cast(y, tl.int64)
        red, green, blue = _load_colours(exposures + y * row_stride, channel_stride, present)
        guide = tl.sum(RED * red + GREEN * green + BLUE * blue, axis=0)[None, :]
        down = (2 * y + 1) * rows - height - 2 * height * interval
        t = down.to(tl.float32) / (2 * height).to(tl.float32)
        logits = (slope + t * slope_change) * guide + (offset + t * offset_change)
        logits = tl.where(line < K, logits, float("-inf"))
        powers = tl.exp(logits - tl.max(logits, axis=0)[None, :])
        weight = powers * (1.0 / tl.sum(powers, axis=0))[None, :]
        to = fused + y * fused_row
        tl.store(to, stored(tl.sum(weight * red, axis=0)[None, :], dtype), mask=inside)
        to += fused_channel
        tl.store(to, stored(tl.sum(weight * green, axis=0)[None, :], dtype), mask=inside)
        to += fused_channel
        tl.store(to, stored(tl.sum(weight * blue, axis=0)[None, :], dtype), mask=inside)


def _named(gray: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(("RED", "GREEN", "BLUE"), gray, strict=True))


def guide(exposures: Tensor, small: Tensor, gray: tuple[float, ...]) -> None:
    """Fills ``small`` (B, 1, h, w); ``gray`` holds the coefficients of the mean luma."""
    batch, count, _, height, width = exposures.shape
    rows, columns = small.shape[-2:]
    launch(
        guide_kernel,
        batch * rows * cdiv(columns, SMALL_COLUMNS),
        exposures.device,
        exposures,
        small,
        height,
        width,
        rows,
        columns,
        width // columns + 2,
        *exposures.stride(),
        K=count,
        **_named(gray),
        COLUMNS=SMALL_COLUMNS,
        num_warps=WARPS,
    )


def fuse(
    slopes: Tensor, offsets: Tensor, exposures: Tensor, fused: Tensor, gray: tuple[float, ...]
) -> None:
    """Fills ``fused``; ``slopes`` and ``offsets`` (B, K, h, w) are contiguous."""
    batch, count, _, height, width = exposures.shape
    rows, columns = slopes.shape[-2:]
    lines, block = _tile_size(count)
    launch(
        fuse_kernel,
        batch * (rows + 1) * cdiv(width, block),
        exposures.device,
        slopes,
        offsets,
        exposures,
        fused,
        height,
        width,
        rows,
        columns,
        *exposures.stride(),
        *fused.stride(),
        K=count,
        **_named(gray),
        LINES=lines,
        COLUMNS=block,
        num_warps=WARPS,
    )


def _configuration(kernel: Any, dtype: str, count: int, interleaved: bool = False) -> Configuration:
    """RGB exposures; small images of a quarter of each side."""
    size = BYTES[dtype]
    lines, columns = _tile_size(count)
    unit = "channel" if interleaved else "column"
    constants: dict[str, Any] = {"K": count, "RED": 0.1, "GREEN": 0.2, "BLUE": 0.04}
    constants |= {f"{unit}_stride": 1, "COLUMNS": columns}
    if kernel is fuse_kernel:
        constants |= {f"fused_{unit}": 1, "LINES": lines}
    else:
        constants["COLUMNS"] = columns = SMALL_COLUMNS
    images = {"exposures": f"*{dtype}:16", "fused": f"*{dtype}:16"}
    images |= dict.fromkeys(("slopes", "offsets", "guide"), "*fp32:16")
    sizes = ("height", "width", "rows", "columns", "most")
    types = {**images, **dict.fromkeys(sizes, "i32")}
    if interleaved:
        types |= {"column_stride": "i32", "fused_column": "i32"}
    full, small = kernel is fuse_kernel, 1 / 16
    return Configuration(
        name=f"{'fuse' if full else 'guide'}, K={count}, {dtype}"
        + (", channels last" if interleaved else ""),
        kernel=kernel,
        signature={x: types.get(x, "i32:16") for x in kernel.arg_names if x not in constants},
        constants=constants,
        pixels=columns,
        bytes_per_pixel=3 * size * (count + full) + small * 4 * (2 * count if full else 1),
        resident=SINGLE_VALUES if not full else BYTES_ON_THE_WAY if count == 2 else MANY_MAPS,
        num_warps=WARPS,
    )


CONFIGURATIONS = [
    *(_configuration(fuse_kernel, dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(fuse_kernel, "u8", count) for count in (3, 5, 8)),
    _configuration(fuse_kernel, "u8", 2, interleaved=True),
    *(_configuration(guide_kernel, dtype, 2) for dtype in ("u8", "fp32")),
    _configuration(guide_kernel, "u8", 2, interleaved=True),
]
