r"""softmax_fuse: :math:`F = \sum_k W_k I_k`, :math:`W = \mathrm{softmax}_k(x)`, in one pass.

A thread holds the weights of all exposures for its pixels in registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.exposures import load_layers, softmax
from ..common.launching import cdiv, compiled_for, launch
from ..common.tiles import stored
from .rows import WARPS, columns_for, is_one_row, layouts_of, locate_pixels, row_size

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = layouts_of(
    ("exposures", "fused"),
    ("logits",),
    ("logits", "exposures", "fused", "logits_batch", "exposures_batch", "exposures_layer"),
)


@compiled_for(*LAYOUTS.values())
def fuse_kernel(
    logits,
    exposures,
    fused,
    weights,
    height,
    width,
    pixels,
    logits_batch,
    logits_layer,
    logits_row,
    logits_column,
    exposures_batch,
    exposures_layer,
    exposures_channel,
    exposures_row,
    exposures_column,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fuse COLUMNS pixels of a row."""
    b, y, first, lane, inside = locate_pixels(width, height, COLUMNS)
    logits += b * logits_batch + y * logits_row + first * logits_column + lane * logits_column
    weight = softmax(load_layers(logits, logits_layer, inside, K), K)
    if weights is not None:
        weights += b * K * pixels + y * width + first
        for k in tl.static_range(K):
            tl.store(weights + lane, stored(weight[k], weights.dtype.element_ty), mask=inside)
            weights += pixels

    exposures += b * exposures_batch + y * exposures_row + first * exposures_column
    # Each image of the batch is dense, in any order of its axes.
    fused += b * C * pixels + y * fused_row + first * fused_column
    for _ in tl.static_range(C):
        total = tl.zeros((COLUMNS,), tl.float32)
        layer = exposures
        for k in tl.static_range(K):
            values = tl.load(layer + lane * exposures_column, mask=inside, other=0)
            total += weight[k] * values.to(tl.float32)
            layer += exposures_layer
        to = fused + lane * fused_column
        tl.store(to, stored(total, fused.dtype.element_ty), mask=inside)
        exposures += exposures_channel
        fused += fused_channel


def softmax_fuse(logits: Tensor, exposures: Tensor, fused: Tensor, weights: Tensor | None) -> None:
    """Fill ``fused``, dense in any order of its last three axes, and ``weights``, contiguous."""
    batch, count, channels = exposures.shape[:3]
    height, width = row_size(logits, is_one_row(logits, exposures, fused))
    columns = columns_for(count)
    launch(
        fuse_kernel,
        batch * height * cdiv(width, columns),
        logits.device,
        logits,
        exposures,
        fused,
        weights,
        height,
        width,
        height * width,
        *logits.stride(),
        *exposures.stride(),
        *fused.stride()[1:],
        K=count,
        C=channels,
        COLUMNS=columns,
        num_warps=WARPS,
    )
