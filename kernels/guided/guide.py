"""The guide of guided_upsample_fuse: the mean luma of all exposures over each small pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.launching import Layout, cdiv, compiled_for, launch
from .luma import load_colours, luma_constants

if TYPE_CHECKING:
    from torch import Tensor

SMALL_COLUMNS = 128
WARPS = 4


@compiled_for(Layout(ones=("column_stride",)), Layout(ones=("channel_stride",)), Layout())
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
    """Compute COLUMNS small pixels; each averages up to ``most`` columns of full-size pixels."""
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
                red, green, blue = load_colours(layer, channel_stride, there)
                total += RED * red + GREEN * green + BLUE * blue
                layer += layer_stride
    mean = total / ((bottom - top) * (right - left)).to(tl.float32)
    tl.store(guide + line * columns + small, mean, mask=small < columns)


def guide(exposures: Tensor, small: Tensor, gray: tuple[float, ...]) -> None:
    """Fill ``small`` ``(B, 1, h, w)``; ``gray`` holds the weights of R, G and B in the guide."""
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
        **luma_constants(gray),
        COLUMNS=SMALL_COLUMNS,
        num_warps=WARPS,
    )
