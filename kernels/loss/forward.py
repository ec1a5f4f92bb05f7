r"""Forward kernel of the loss: value, loss map, derivatives w.r.t. the windowed moments of F.

.. math::
    q(p) = \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p), \quad
    \gamma_k = A_k / (\textstyle\sum_j A_j + \varepsilon)

Programs march down strips of windows (:mod:`..common.windows`): they filter 2 + 3 K moments of F
and the exposures, and compute everything else at the windows that a row completes. Outputs that are
not wanted are ``None``; m are the weights of the windows:

- partials: one value for each program, (scale / norm) times the sum of its m (1 - q);
- values: the map 1 - q;
- maps: 2 + K maps (:mod:`..common.maps`), -(scale / norm) m times the derivatives of q w.r.t. E[F],
  E[F^2] and each E[F I_k]; and shifts ``(B, 1 + K)``, the constants subtracted from F and each I_k.
"""

from __future__ import annotations

import triton.language as tl

from ..common.exposures import layer_pointers
from ..common.launching import Layout, compiled_for
from ..common.maps import clear_margins, map_area, map_offset, store_maps
from ..common.similarity import similarity
from ..common.windows import locate_strip, push, zero_rows
from ..filters.attributes import attributes_at
from .terms import add_each, pixel_moments, sample_means


@compiled_for(
    Layout(ones=("source_column", "exposures_column"), multiples=("maps",)),
    Layout(multiples=("maps",)),
)
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
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the wanted outputs for a strip of windows."""
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
        # The backward pass filters across the strips of a plane, so its maps need one constant.
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
        planes = tl.num_programs(0) // (tl.cdiv(windows_x, COLUMNS) * tl.cdiv(windows_y, rows))
        area = map_area(planes, windows_y, windows_x, MARGIN_Y, MARGIN_X)
        clear_margins(
            maps, area, b, top, end, lane, windows_y, windows_x, 2 + K, MARGIN_Y, MARGIN_X
        )
        if top + left == 0:
            for k in tl.static_range(K + 1):
                tl.store(shifts + b * (K + 1) + k, common[k])
    plane = windows_y.to(tl.int64) * windows_x

    ring = zero_rows((2 + 3 * K) * WY, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    # The loop starts at 0: from ``top`` on the compiler needs 30 registers more.
    for j in range(end - top + WY - 1):
        y = (top + j).to(tl.int64)
        at_exposures = layer_pointers(exposures_x + y * exposures_row, exposures_layer, K)
        at_source = layer_pointers(source_x + y * source_row, source_layer, K if FROM_LOGITS else 1)
        sums = zero_rows(2 + 3 * K, COLUMNS)
        # The taps are symmetric, so two pixels have the same tap, except for the middle one.
        for t in tl.static_range(WX // 2 + 1):
            moments = pixel_moments(
                at_source,
                at_exposures,
                t * tl.cast(source_column, tl.int64),
                t * tl.cast(exposures_column, tl.int64),
                near,
                K,
                FROM_LOGITS,
            )
            if t < WX // 2:
                far = pixel_moments(
                    at_source,
                    at_exposures,
                    (WX - 1 - t) * tl.cast(source_column, tl.int64),
                    (WX - 1 - t) * tl.cast(exposures_column, tl.int64),
                    near,
                    K,
                    FROM_LOGITS,
                )
                moments = add_each(moments, far)
            sums = add_each(sums, moments, TAPS_X[t])
        ring = push(ring, sums, TAPS_Y)

        row = y - (WY - 1)
        if j >= WY - 1:
            center = row + WY // 2
            # The pointer to the window's centre advances from exposure to exposure.
            at = exposures_x + center * exposures_row
            at += tl.full([], WX // 2, tl.int64) * exposures_column
            importance = tl.zeros([COLUMNS], tl.float32) + eps
            quality = tl.zeros([COLUMNS], tl.float32)
            grad_mean = tl.zeros([COLUMNS], tl.float32)
            grad_second_moment = tl.zeros([COLUMNS], tl.float32)
            grad_crosses = ()
            for k in tl.static_range(K):
                mean_i = ring[(2 + 3 * k) * WY]
                second_moment_i = ring[(3 + 3 * k) * WY]
                variance, magnitude, exposedness, _, _ = attributes_at(
                    at,
                    center,
                    x + WX // 2,
                    mean_i,
                    second_moment_i,
                    height,
                    width,
                    exposures_row,
                    exposures_column,
                    floor,
                    VARIANCE,
                    GRADIENT,
                    WELL_EXPOSEDNESS,
                    WX == 1 or WY == 1,
                )
                a = variance * magnitude * exposedness
                importance += a
                mean_f = ring[0]
                value, grad_mean_k, _, grad_second_moment_k, grad_cross_k = similarity(
                    mean_f,
                    mean_i,
                    (ring[WY] - mean_f * mean_f) + (second_moment_i - mean_i * mean_i),
                    ring[(4 + 3 * k) * WY],
                    near[0],
                    near[k + 1],
                    c1,
                    c2,
                    LUMINANCE,
                )
                quality += a * value
                grad_mean += a * grad_mean_k
                grad_second_moment += a * grad_second_moment_k
                grad_crosses = grad_crosses + (a * grad_cross_k,)
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
                grad_mean += 2 * (common[0] - near[0]) * grad_second_moment
                for k in tl.static_range(K):
                    grad_mean += (common[k + 1] - near[k + 1]) * grad_crosses[k]
                derivatives = (weight * grad_mean, weight * grad_second_moment)
                for k in tl.static_range(K):
                    derivatives = derivatives + (weight * grad_crosses[k],)
                at_map = map_offset(b, row, lane, windows_y, windows_x, MARGIN_Y, MARGIN_X)
                store_maps(maps, at_map, area, derivatives, inside)
    if partials is not None:
        tl.store(partials + program, tl.sum(total))
