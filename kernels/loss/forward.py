r"""Forward kernel of the loss: value, loss map, derivatives by the windowed moments of F

.. math::
    q(p) = \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p), \quad
    \gamma_k = A_k / (\textstyle\sum_j A_j + \varepsilon)

A march down strips of windows (:mod:`..common.windows`): 2 + 3 K moments of F and the exposures are
filtered, everything else happens at the window that a row completes. Outputs that are not wanted
are ``None``:

- partials: one number a program, (scale / norm) times the sum of its m (1 - q);
- values: the map 1 - q;
- maps: (B, 2 + K, windows), -(scale / norm) m times the derivatives of q by E[F], E[F^2] and each
  E[F I_k]; and shifts, (B, 1 + K), the constants around which these moments are taken.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..common.exposures import load_fused, load_layers
from ..common.windows import locate_strip, push, zero_rows
from ..filters.attributes import attributes_at
from .terms import sample_means, similarity

# One variant serves every size and alignment: a thread loads single values anyway.
SIZES = (
    "height",
    "width",
    "rows",
    "source_batch",
    "source_layer",
    "source_row",
    "exposures_batch",
    "exposures_layer",
    "exposures_row",
    "weights_batch",
    "weights_row",
)
ADDRESSES = ("source", "exposures", "weights", "norm", "partials", "values", "maps", "shifts")


@triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=ADDRESSES)
def forward_kernel(
    source,
    exposures,
    weights,
    norm,
    partials,
    values,
    maps,
    shifts,
    height,
    width,
    rows,
    source_batch,
    source_layer,
    source_row,
    source_column,
    exposures_batch,
    exposures_layer,
    exposures_row,
    exposures_column,
    weights_batch,
    weights_row,
    weights_column,
    scale,
    c1,
    c2,
    floor,
    eps,
    K: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
    VARIANCE: tl.constexpr,
    GRADIENT: tl.constexpr,
    WELL_EXPOSEDNESS: tl.constexpr,
    LUMINANCE: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    WY: tl.constexpr = len(TAPS_Y)
    WX: tl.constexpr = len(TAPS_X)
    windows_y = height - WY + 1
    windows_x = width - WX + 1
    program = tl.program_id(0)
    b, top, end, lane = locate_strip(program, windows_y, windows_x, rows, COLUMNS)
    left = program % tl.cdiv(windows_x, COLUMNS) * COLUMNS
    inside = lane < windows_x
    # Columns beyond the last window repeat it, so no load needs a mask.
    x = tl.minimum(lane, windows_x - 1).to(tl.int64)
    source += b * source_batch
    exposures += b * exposures_batch
    source_x = source + x * source_column
    exposures_x = exposures + x * exposures_column

    near = sample_means(
        source,
        source_layer,
        source_row,
        source_column,
        exposures,
        exposures_layer,
        exposures_row,
        exposures_column,
        top,
        left,
        end - top + WY - 1,
        tl.minimum(COLUMNS + WX - 1, width - left),
        K,
        FROM_LOGITS,
    )
    factor = scale
    if norm is not None:
        factor = scale / tl.load(norm)
    if maps is not None:
        # The maps of all programs of a plane meet in the backward pass: one constant for them all.
        common = sample_means(
            source,
            source_layer,
            source_row,
            source_column,
            exposures,
            exposures_layer,
            exposures_row,
            exposures_column,
            0,
            0,
            height,
            width,
            K,
            FROM_LOGITS,
        )
        if top + left == 0:
            for k in tl.static_range(K + 1):
                tl.store(shifts + b * (K + 1) + k, common[k])
    plane = windows_y.to(tl.int64) * windows_x

    ring = zero_rows((2 + 3 * K) * WY, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    # Counted from 0: from ``top`` the compiler needs 30 registers more.
    for j in range(end - top + WY - 1):
        y = (top + j).to(tl.int64)
        sums = zero_rows(2 + 3 * K, COLUMNS)
        at_exposures = exposures_x + y * exposures_row
        at_source = source_x + y * source_row
        for t in tl.static_range(WX):
            images = load_layers(at_exposures, exposures_layer, None, K)
            f = load_fused(at_source, source_layer, images, None, K, FROM_LOGITS) - near[0]
            at_exposures += exposures_column
            at_source += source_column
            wf = f * TAPS_X[t]
            next_sums = (sums[0] + wf, sums[1] + wf * f)
            for k in tl.static_range(K):
                e = images[k] - near[k + 1]
                we = e * TAPS_X[t]
                next_sums = next_sums + (
                    sums[2 + 3 * k] + we,
                    sums[3 + 3 * k] + we * e,
                    sums[4 + 3 * k] + wf * e,
                )
            sums = next_sums
        ring = push(ring, sums, TAPS_Y)

        row = y - (WY - 1)
        if j >= WY - 1:
            center = row + WY // 2
            # Of the window's centre, exposure by exposure.
            at = exposures_x + center * exposures_row
            at += tl.full([], WX // 2, tl.int64) * exposures_column
            importance = tl.zeros([COLUMNS], tl.float32) + eps
            quality = tl.zeros([COLUMNS], tl.float32)
            by_mean = tl.zeros([COLUMNS], tl.float32)
            by_power = tl.zeros([COLUMNS], tl.float32)
            by_crosses = ()
            for k in tl.static_range(K):
                mean_i = ring[(2 + 3 * k) * WY]
                power_i = ring[(3 + 3 * k) * WY]
                variance, magnitude, exposedness, _, _ = attributes_at(
                    at,
                    center,
                    x,
                    mean_i,
                    power_i,
                    height,
                    width,
                    exposures_row,
                    exposures_column,
                    floor,
                    VARIANCE,
                    GRADIENT,
                    WELL_EXPOSEDNESS,
                    WX == 1,
                )
                a = variance * magnitude * exposedness
                importance += a
                value, one_mean, one_power, one_cross = similarity(
                    ring[0],
                    mean_i,
                    ring[WY],
                    power_i,
                    ring[(4 + 3 * k) * WY],
                    near[0],
                    near[k + 1],
                    c1,
                    c2,
                    LUMINANCE,
                )
                quality += a * value
                by_mean += a * one_mean
                by_power += a * one_power
                by_crosses = by_crosses + (a * one_cross,)
                at += exposures_layer
            inverse = 1.0 / importance
            lost = 1 - quality * inverse
            weight = factor
            if weights is not None:
                to = weights + b * weights_batch + row * weights_row + x * weights_column
                weight *= tl.load(to).to(tl.float32)
            if partials is not None:
                total += tl.where(inside, weight * lost, 0.0)
            if values is not None:
                to = values + b * plane + row * windows_x + lane
                tl.store(to, lost.to(values.dtype.element_ty), mask=inside)
            if maps is not None:
                weight = -weight * inverse
                to = maps + b * (2 + K) * plane + row * windows_x + lane
                by_mean += 2 * (common[0] - near[0]) * by_power
                for k in tl.static_range(K):
                    by_mean += (common[k + 1] - near[k + 1]) * by_crosses[k]
                    tl.store(to + (2 + k) * plane, weight * by_crosses[k], mask=inside)
                tl.store(to, weight * by_mean, mask=inside)
                tl.store(to + plane, weight * by_power, mask=inside)
    if partials is not None:
        tl.store(partials + program, tl.sum(total))
