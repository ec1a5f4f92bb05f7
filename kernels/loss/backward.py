r"""Backward kernel of the loss: it filters the derivative maps of :mod:`.forward` to a gradient.

.. math::
    \partial L / \partial F = w * d_\mu + 2 F (w * d_\sigma) + \sum_k I_k (w * d_k), \quad
    \partial L / \partial x_k = W_k (I_k - F)\, \partial L / \partial F

where the constants of the forward pass are subtracted from F and the exposures, and the result is
multiplied with a scale that keeps float16 from underflowing. Programs march down strips of pixels
(:mod:`..common.windows`); the windows that cover a pixel begin up to a window's size before it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.exposures import load_layers, softmax, weighted_sum
from ..common.launching import Layout, compiled_for
from ..common.maps import filter_maps, map_area, map_offset
from ..common.windows import locate_strip, push, zero_rows


@triton.jit
def sum_partials(partials, count):
    """Return the sum of the partial sums, in an order that depends on their number only."""
    lane = tl.arange(0, 512)
    total = tl.zeros([512], tl.float32)
    for start in range(0, count, 512):
        total += tl.load(partials + start + lane, mask=start + lane < count, other=0.0)
    return tl.sum(total)


@compiled_for(Layout())
def sum_kernel(partials, value, count):
    """Store the sum of the partial sums, for calls without a gradient."""
    tl.store(value, sum_partials(partials, count))


@compiled_for(
    Layout(ones=("source_column", "exposures_column"), multiples=("maps",)),
    Layout(multiples=("maps",)),
)
def backward_kernel(
    source,
    exposures,
    maps,
    shifts,
    coarse,
    gradient,
    partials,
    value,
    height,
    width,
    rows,
    count_partials,
    source_batch,
    source_layer,
    source_row,
    source_column,
    exposures_batch,
    exposures_layer,
    exposures_row,
    exposures_column,
    scale,
    K: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the gradient w.r.t. F or the logits of a strip of pixels."""
    WY: tl.constexpr = len(TAPS_Y)
    WX: tl.constexpr = len(TAPS_X)
    windows_y = height - WY + 1
    windows_x = width - WX + 1
    program = tl.program_id(0)
    b, top, end, x = locate_strip(program, height, width, rows, COLUMNS)
    if partials is not None and program == 0:
        tl.store(value, sum_partials(partials, count_partials))

    inside = x < width
    source += b * source_batch
    exposures += b * exposures_batch
    at_x = x.to(tl.int64)

    ring = zero_rows((2 + K) * WY, COLUMNS)
    # The offset of the first window that covers a pixel. Lanes beyond the image repeat its last
    # column and are not stored.
    first_tap = map_offset(
        b,
        top - (WY - 1),
        tl.minimum(x, width - 1) - (WX - 1),
        windows_y,
        windows_x,
        MARGIN_Y,
        MARGIN_X,
    )
    planes = tl.num_programs(0) // (tl.cdiv(width, COLUMNS) * tl.cdiv(height, rows))
    area = map_area(planes, windows_y, windows_x, MARGIN_Y, MARGIN_X)
    for i in range(top - (WY - 1), end):
        filtered = filter_maps(maps, first_tap, area, 2 + K, TAPS_X)
        first_tap += windows_x + 2 * MARGIN_X
        ring = push(ring, filtered, TAPS_Y)

        if i >= top:
            y = tl.cast(i, tl.int64)
            at = exposures + y * exposures_row + at_x * exposures_column
            images = load_layers(at, exposures_layer, inside, K)
            at = source + y * source_row + at_x * source_column
            if FROM_LOGITS:
                weights = softmax(load_layers(at, source_layer, inside, K), K)
                fused = weighted_sum(weights, images, K)
            else:
                fused = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            shift = shifts + b * (K + 1)
            out = ring[0] + 2 * (fused - tl.load(shift)) * ring[WY]
            for k in tl.static_range(K):
                out += (images[k] - tl.load(shift + k + 1)) * ring[(2 + k) * WY]
            if coarse is not None:
                # A pixel has the weight 1/4 in a 2x2 mean, and a repeated pixel counts twice.
                half_width = (width + 1) // 2
                to = coarse + b * half_width * ((height + 1) // 2) + y // 2 * half_width + x // 2
                coarse_weight = tl.where(x == 2 * (width // 2), 1.0, 0.5)
                coarse_weight *= tl.where(y == 2 * (height // 2), 1.0, 0.5)
                out += coarse_weight * tl.load(to, mask=inside, other=0.0)
            out *= scale
            if FROM_LOGITS:
                to = b * K * height * width + y * width + x
                for k in tl.static_range(K):
                    grad_logit = weights[k] * (images[k] - fused) * out
                    at = gradient + to + k * height.to(tl.int64) * width
                    tl.store(at, grad_logit.to(gradient.dtype.element_ty), mask=inside)
            else:
                to = gradient + b * height * width + y * width + x
                tl.store(to, out.to(gradient.dtype.element_ty), mask=inside)
