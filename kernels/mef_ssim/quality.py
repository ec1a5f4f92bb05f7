r"""MEF-SSIM of a fused image y from the maps of its exposures, with the gradient, in two variants.

.. math::
    cs = \frac{2\sigma_{\hat x y} + C}{\sigma_{\hat x}^2 + \sigma_y^2 + C}, \quad
    \sigma_{\hat x y} = \sum_k g_k (w * x_k y - \mu_k\, w * y)

``ma2015`` has a gain g for every window and exposure; in ``mefnet`` g is 1 for the exposure of
largest variance and 0 for the others, and there is a luminance factor
:math:`(2\mu_y\lambda + C_1) / (\mu_y^2 + \lambda^2 + C_1)`.

The first pass sums cs over the windows and writes its derivatives w.r.t. the mean of y, its second
moment and the cross moments, :math:`d_\mu`, :math:`d_s` and :math:`g_k d_c`. The second filters
them:

.. math::
    \partial Q / \partial y = w * d_\mu + 2 y\,(w * d_s) + \textstyle\sum_k x_k\, w * (g_k d_c)

A constant of the plane is subtracted from y.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import MARGINS, WINDOW, configuration
from ..common.launching import ARITHMETIC, MANY_MAPS, Kernel, Layout, compiled_for
from ..common.maps import clear_margins, filter_maps, map_area, map_offset, store_maps
from ..common.tiles import stored
from ..common.windows import (
    load_tap,
    locate_strip,
    plane_constant,
    present_width,
    push,
    zero_rows,
)

if TYPE_CHECKING:
    from ..common.launching import Configuration


@triton.jit
def product_rows(
    fused,
    exposures,
    layer,
    shift,
    column,
    width,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Load one row of (y, y², x_1 y, …, x_K y), filtered along the row."""
    mean = tl.zeros(column.shape, tl.float32)
    second_moment = tl.zeros(column.shape, tl.float32)
    weighted = ()
    for j in tl.static_range(len(TAPS)):
        y = load_tap(fused, j, column, width, 1, PADDED) - shift
        weighted = weighted + (TAPS[j] * y,)
        mean += weighted[j]
        second_moment += weighted[j] * y
    rows = (mean, second_moment)
    for k in tl.static_range(K):
        cross = tl.zeros(column.shape, tl.float32)
        for j in tl.static_range(len(TAPS)):
            cross += weighted[j] * load_tap(exposures + k * layer, j, column, width, 1, PADDED)
        rows = rows + (cross,)
    return rows


@compiled_for(Layout(multiples=("maps",)))
def quality_kernel(
    fused,  # (B, H, W); all tensors are contiguous
    exposures,  # (B, K, H, W)
    means,  # ma2015: (B, K, map); mefnet: (B, map), the mean of the chosen exposure
    gains,  # ma2015: (B, K, map); mefnet: None
    chosen,  # mefnet: the index of the exposure, int64 (B, map); ma2015: None
    variance,  # (B, map)
    luminance,  # mefnet: (B, map); ma2015: None
    sums,  # the sum of cs over each program's strip
    luminance_sums,  # mefnet: the sum of the luminance factor
    maps,  # d_s, d_μ, g_1 d_c, …, g_K d_c, and d_μ of the luminance factor; or None
    shifts,  # the constants of the planes, or None
    height,
    width,
    map_height,
    map_width,
    rows,
    c1,
    c2,
    scale,
    K: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sum the factors over a strip of windows, and store their derivatives if wanted."""
    size: tl.constexpr = len(TAPS_Y)
    top: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    left: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    program = tl.program_id(0)
    batch, first, end, column = locate_strip(program, map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    # Lanes beyond the map repeat its last column and do not count.
    from_column = tl.minimum(column, map_width - 1) - left
    layer = tl.cast(height, tl.int64) * width
    map_layer = tl.cast(map_height, tl.int64) * map_width
    fused += batch * layer
    exposures += batch * K * layer
    shift = plane_constant(fused, height, width, width, 1)
    count: tl.constexpr = 2 + K if luminance is None else 3 + K
    if maps is not None:
        planes = tl.num_programs(0) // (tl.cdiv(map_width, COLUMNS) * tl.cdiv(map_height, rows))
        area = map_area(planes, map_height, map_width, MARGIN_Y, MARGIN_X)
        clear_margins(
            maps,
            area,
            batch,
            first,
            end,
            column,
            map_height,
            map_width,
            count,
            MARGIN_Y,
            MARGIN_X,
        )
    ring = zero_rows((2 + K) * size, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    luminance_total = tl.zeros((COLUMNS,), tl.float32)
    for row in range(first - top, end - top + size - 1):
        at = tl.cast(row, tl.int64) * width + from_column
        present = present_width(row, height, width, PADDED)
        filtered = product_rows(
            fused + at, exposures + at, layer, shift, from_column, present, K, TAPS_X, PADDED
        )
        ring = push(ring, filtered, TAPS_Y)
        done = row + top - size + 1
        if done >= first:
            mean = ring[0]
            both_variances = ring[size] - mean * mean
            here = tl.cast(done, tl.int64) * map_width + column
            at_map = batch * map_layer + here
            covariance = tl.zeros((COLUMNS,), tl.float32)
            level = tl.zeros((COLUMNS,), tl.float32)
            chosen_gains = ()
            if gains is not None:
                for k in tl.static_range(K):
                    at_layer = (batch * K + k) * map_layer + here
                    gain = tl.load(gains + at_layer, mask=inside, other=0).to(tl.float32)
                    chosen_gains = chosen_gains + (gain,)
                    covariance += gain * ring[(2 + k) * size]
                    level += gain * tl.load(means + at_layer, mask=inside, other=0).to(tl.float32)
            else:
                number = tl.load(chosen + at_map, mask=inside, other=0)
                level += tl.load(means + at_map, mask=inside, other=0).to(tl.float32)
                for k in tl.static_range(K):
                    chosen_gains = chosen_gains + (tl.where(number == k, 1.0, 0.0),)
                    covariance = tl.where(number == k, ring[(2 + k) * size], covariance)
            covariance -= level * mean
            both_variances += tl.load(variance + at_map, mask=inside, other=0).to(tl.float32)
            inverse = 1.0 / (both_variances + c2)
            quality = (2 * covariance + c2) * inverse
            total += tl.where(inside, quality, 0.0)
            if luminance is not None:
                wanted = tl.load(luminance + at_map, mask=inside, other=0).to(tl.float32)
                brightness = mean + shift
                luminance_inverse = 1.0 / (brightness * brightness + wanted * wanted + c1)
                factor = (2 * brightness * wanted + c1) * luminance_inverse
                luminance_total += tl.where(inside, factor, 0.0)
            if maps is not None:
                grad_second_moment = -scale * quality * inverse
                grad_cross = 2 * scale * inverse
                derivatives = (
                    grad_second_moment,
                    -2 * mean * grad_second_moment - level * grad_cross,
                )
                for k in tl.static_range(K):
                    # A factor of 0 would not do for other exposures: 0 times NaN is NaN.
                    grad_cross_k = tl.where(chosen_gains[k] == 0, 0.0, chosen_gains[k] * grad_cross)
                    derivatives = derivatives + (grad_cross_k,)
                if luminance is not None:
                    grad_mean = 2 * scale * luminance_inverse * (wanted - brightness * factor)
                    derivatives = derivatives + (grad_mean,)
                to = map_offset(batch, done, column, map_height, map_width, MARGIN_Y, MARGIN_X)
                store_maps(maps, to, area, derivatives, inside)
    if maps is not None:
        # Stored after the loop: before it, Triton 3.6 would keep the storing thread's condition in
        # a register through the loop, and spill it on sm_80.
        tl.store(shifts + batch, shift)
    tl.store(sums + program, tl.sum(total, axis=0))
    if luminance is not None:
        tl.store(luminance_sums + program, tl.sum(luminance_total, axis=0))


@compiled_for(Layout(multiples=("maps",)))
def quality_backward_kernel(
    fused,
    exposures,
    maps,
    shifts,
    gradient,
    luminance_gradient,  # or None
    height,
    width,
    map_height,
    map_width,
    rows,
    K: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the gradients w.r.t. a strip of pixels of the fused image."""
    size: tl.constexpr = len(TAPS_Y)
    # A window may begin this far below and right of a pixel that it covers.
    down: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    right: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    count: tl.constexpr = 2 + K if luminance_gradient is None else 3 + K
    batch, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    layer = tl.cast(height, tl.int64) * width
    shift = tl.load(shifts + batch)
    # Lanes beyond the image repeat its last column and are not stored.
    x = tl.minimum(column, width - 1) + (right - len(TAPS_X) + 1)
    y = first - size + 1 + down
    first_tap = map_offset(batch, y, x, map_height, map_width, MARGIN_Y, MARGIN_X)
    planes = tl.num_programs(0) // (tl.cdiv(width, COLUMNS) * tl.cdiv(height, rows))
    area = map_area(planes, map_height, map_width, MARGIN_Y, MARGIN_X)
    ring = zero_rows(count * size, COLUMNS)
    for row in range(first - size + 1, end):
        filtered = filter_maps(maps, first_tap, area, count, TAPS_X)
        first_tap += map_width + 2 * MARGIN_X
        ring = push(ring, filtered, TAPS_Y)
        if row >= first:
            at_pixel = tl.cast(row, tl.int64) * width + column
            here = batch * layer + at_pixel
            value = tl.load(fused + here, mask=inside, other=0).to(tl.float32) - shift
            result = ring[size] + 2 * value * ring[0]
            for k in tl.static_range(K):
                at = exposures + (batch * K + k) * layer + at_pixel
                image = tl.load(at, mask=inside, other=0).to(tl.float32)
                result += image * ring[(2 + k) * size]
            tl.store(gradient + here, stored(result, gradient.dtype.element_ty), mask=inside)
            if luminance_gradient is not None:
                result = stored(ring[(2 + K) * size], luminance_gradient.dtype.element_ty)
                tl.store(luminance_gradient + here, result, mask=inside)


def _configuration(variant: str, count: int, second: bool, gradient: bool = True) -> Configuration:
    """Return a variant of the first or the second pass."""
    kernel: Kernel = quality_backward_kernel if second else quality_kernel
    is_mefnet = variant == "mefnet"
    absent = ["gains"] if is_mefnet else ["chosen", "luminance", "luminance_sums"]
    absent += [] if is_mefnet else ["luminance_gradient"]
    absent += [] if gradient else ["maps", "shifts"]
    absent = [x for x in kernel.arg_names if x in absent]
    constants = {**WINDOW, "K": count, "PADDED": is_mefnet, **dict.fromkeys(absent)}
    constants |= MARGINS["zero" if is_mefnet else "valid"]
    numbers = ("height", "width", "map_height", "map_width", "rows")
    given = {x: "*fp32" for x in kernel.arg_names if x not in constants and x not in numbers} | {
        x: "fp32" for x in ("c1", "c2", "scale") if x in kernel.arg_names
    }
    if is_mefnet and not second:
        given["chosen"] = "*i64"
    maps = 2 + count + is_mefnet if gradient else 0
    read = 0 if second else 20 if is_mefnet else 4 + 8 * count
    passes = "second pass" if second else "first pass" if gradient else "values alone"
    return configuration(
        f"{variant}, {passes}, K = {count}",
        kernel,
        given,
        constants,
        4 + 4 * count + read + 4 * maps + (4 * (1 + is_mefnet) if second else 0),
        resident=ARITHMETIC if count <= 3 else MANY_MAPS,
    )


CONFIGURATIONS = [
    _configuration(variant, count, second)
    for variant in ("ma2015", "mefnet")
    for count in (2, 3, 5)
    for second in (False, True)
] + [_configuration(variant, 2, False, gradient=False) for variant in ("ma2015", "mefnet")]
