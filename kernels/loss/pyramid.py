"""Pyramid kernel of the loss: several levels of 2x2 means of F, the exposures and a mask at once.

A program handles a square of full-size pixels and halves it in registers, level after level. The
last row or column of an odd size is copied, which is the mean of it and its repetition.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.exposures import load_fused, load_layers
from ..common.launching import Layout, compiled_for


@triton.jit
def _mean_weights(first, size, COUNT: tl.constexpr):
    """Return the weight of each of COUNT samples in its mean of two: 1 for the last odd one."""
    at = first + tl.arange(0, COUNT)
    return tl.where((at == size - 1) & (at % 2 == 0), 1.0, 0.5)


@triton.jit
def _halve(x, top, left, height, width, SIDE: tl.constexpr):
    """Return the 2x2 means of a (SIDE, SIDE) block at (top, left) of a level of this size.

    Values outside the level must be 0.
    """
    x *= _mean_weights(top, height, SIDE)[:, None] * _mean_weights(left, width, SIDE)[None, :]
    x = tl.sum(tl.reshape(x, [SIDE, SIDE // 2, 2]), axis=2)
    return tl.sum(tl.reshape(x, [SIDE // 2, 2, SIDE // 2]), axis=1)


# A thread loads single values anyway.
@compiled_for(Layout(ones=("source_column", "exposures_column")), Layout())
def pyramid_kernel(
    source,
    exposures,
    mask,
    levels,
    batch,
    height,
    width,
    source_batch,
    source_layer,
    source_row,
    source_column,
    exposures_batch,
    exposures_layer,
    exposures_row,
    exposures_column,
    mask_batch,
    mask_row,
    mask_column,
    K: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
    LEVELS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Fill ``levels``: LEVELS arrays (B, 1 + K or 2 + K, H / 2^s, W / 2^s) one after the other."""
    PLANES: tl.constexpr = 1 + K if mask is None else 2 + K
    across = tl.cdiv(width, SIDE)
    down = tl.cdiv(height, SIDE)
    program = tl.program_id(0)
    b = (program // (across * down)).to(tl.int64)
    top = program // across % down * SIDE
    left = program % across * SIDE
    y = (top + tl.arange(0, SIDE))[:, None].to(tl.int64)
    x = (left + tl.arange(0, SIDE))[None, :].to(tl.int64)
    inside = (y < height) & (x < width)

    at = exposures + b * exposures_batch + y * exposures_row + x * exposures_column
    images = load_layers(at, exposures_layer, inside, K)
    at = source + b * source_batch + y * source_row + x * source_column
    planes = (load_fused(at, source_layer, images, inside, K, FROM_LOGITS),) + images
    if mask is not None:
        at = mask + b * mask_batch + y * mask_row + x * mask_column
        planes = planes + (tl.load(at, mask=inside, other=0.0).to(tl.float32),)

    for m in tl.static_range(PLANES):
        block = planes[m]
        to = levels
        level_height = height
        level_width = width
        for s in tl.static_range(LEVELS):
            block = _halve(block, top >> s, left >> s, level_height, level_width, SIDE >> s)
            level_height = (level_height + 1) // 2
            level_width = (level_width + 1) // 2
            plane = level_height.to(tl.int64) * level_width
            y = ((top >> (s + 1)) + tl.arange(0, SIDE >> (s + 1)))[:, None]
            x = ((left >> (s + 1)) + tl.arange(0, SIDE >> (s + 1)))[None, :]
            at = to + (b * PLANES + m) * plane + y.to(tl.int64) * level_width + x
            tl.store(at, block, mask=(y < level_height) & (x < level_width))
            to += batch * PLANES * plane
