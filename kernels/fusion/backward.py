r"""The backward pass of softmax_fuse, in one kernel.

.. math::
    \partial L / \partial x_k = W_k (t_k - \sum_j W_j t_j), \quad
    t_k = \sum_c \partial L / \partial F_c I_{kc} + \partial L / \partial W_k, \quad
    \partial L / \partial I_{kc} = W_k \partial L / \partial F_c
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
    ("logits", "weights"),
    ("grad_fused", "grad_weights", "logits", "exposures", "grad_logits", "grad_exposures")
    + ("fused_batch", "weights_batch", "logits_batch", "exposures_batch", "exposures_layer"),
)


@compiled_for(*LAYOUTS.values())
def fuse_backward_kernel(
    grad_fused,
    grad_weights,
    logits,
    exposures,
    grad_logits,
    grad_exposures,
    height,
    width,
    pixels,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    weights_batch,
    weights_layer,
    weights_row,
    weights_column,
    logits_batch,
    logits_layer,
    logits_row,
    logits_column,
    exposures_batch,
    exposures_layer,
    exposures_channel,
    exposures_row,
    exposures_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute both gradients for COLUMNS pixels of a row."""
    b, y, first, lane, inside = locate_pixels(width, height, COLUMNS)
    logits += b * logits_batch + y * logits_row + first * logits_column + lane * logits_column
    weight = softmax(load_layers(logits, logits_layer, inside, K), K)
    if grad_fused is not None:
        grad_fused += b * fused_batch + y * fused_row + first * fused_column + lane * fused_column
    if grad_weights is not None:
        grad_weights += b * weights_batch + y * weights_row + first * weights_column
    exposures += b * exposures_batch + y * exposures_row + first * exposures_column
    # Gradients are contiguous.
    here = y * width + first + lane

    if grad_exposures is not None:
        to = grad_exposures + b * K * C * pixels + here
        for k in tl.static_range(K):
            grad_channel = grad_fused
            for _ in tl.static_range(C):
                value = weight[k] * tl.load(grad_channel, mask=inside, other=0).to(tl.float32)
                tl.store(to, stored(value, grad_exposures.dtype.element_ty), mask=inside)
                grad_channel += fused_channel
                to += pixels

    if grad_logits is not None:
        terms = ()
        mean = tl.zeros((COLUMNS,), tl.float32)
        for k in tl.static_range(K):
            term = tl.zeros((COLUMNS,), tl.float32)
            if grad_weights is not None:
                at = grad_weights + lane * weights_column
                term += tl.load(at, mask=inside, other=0).to(tl.float32)
                grad_weights += weights_layer
            if grad_fused is not None:
                channel = exposures + lane * exposures_column
                grad_channel = grad_fused
                for _ in tl.static_range(C):
                    values = tl.load(channel, mask=inside, other=0).to(tl.float32)
                    term += tl.load(grad_channel, mask=inside, other=0).to(tl.float32) * values
                    channel += exposures_channel
                    grad_channel += fused_channel
                exposures += exposures_layer
            mean += weight[k] * term
            terms = terms + (term,)
        to = grad_logits + b * K * pixels + here
        for k in tl.static_range(K):
            value = weight[k] * (terms[k] - mean)
            tl.store(to, stored(value, grad_logits.dtype.element_ty), mask=inside)
            to += pixels


def softmax_fuse_backward(
    grad_fused: Tensor | None,
    grad_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    grad_logits: Tensor | None,
    grad_exposures: Tensor | None,
) -> None:
    """Fill ``grad_logits`` and ``grad_exposures``, both contiguous."""
    batch, count, channels = exposures.shape[:3]
    height, width = row_size(logits, is_one_row(grad_fused, grad_weights, logits, exposures))
    columns = columns_for(count)
    launch(
        fuse_backward_kernel,
        batch * height * cdiv(width, columns),
        logits.device,
        grad_fused,
        grad_weights,
        logits,
        exposures,
        grad_logits,
        grad_exposures,
        height,
        width,
        height * width,
        # What is absent has the layout of what is there.
        *(exposures.select(1, 0) if grad_fused is None else grad_fused).stride(),
        *(logits if grad_weights is None else grad_weights).stride(),
        *logits.stride(),
        *exposures.stride(),
        K=count,
        C=channels,
        COLUMNS=columns,
        num_warps=WARPS,
    )
