r"""MEF-SSIM of a fused image y against maps of its exposures, with the gradient: both variants

.. math::
    cs = \frac{2\sigma_{\hat x y} + C}{\sigma_{\hat x}^2 + \sigma_y^2 + C}, \quad
    \sigma_{\hat x y} = \sum_k g_k (w * x_k y - \mu_k\, w * y)

``ma2015`` has a gain g at every window and exposure; in ``mefnet`` g is 1 for the exposure of
largest variance and 0 for the others, and there is a luminance factor
:math:`(2\mu_y\lambda + C_1) / (\mu_y^2 + \lambda^2 + C_1)`.

The first pass sums cs over the windows and writes its derivatives by the moments of y (three maps,
for any number of exposures: those by :math:`w * x_k y` differ by g, which is at hand); the second
filters them:

.. math::
    \partial Q / \partial y = w * d_\mu + 2 y\,(w * d_p) + \textstyle\sum_k x_k\, w * (g_k d_c)

y is taken minus a constant of the plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.configurations import WINDOW, configuration
from ..common.launching import ARITHMETIC, MANY_MAPS
from ..common.tiles import stored
from ..common.windows import (
    filter_row,
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
    """One row of (y, y², x_1 y, …, x_K y), filtered along the row."""
    mean = tl.zeros(column.shape, tl.float32)
    power = tl.zeros(column.shape, tl.float32)
    weighted = ()
    for j in tl.static_range(len(TAPS)):
        y = load_tap(fused, j, column, width, 1, PADDED) - shift
        weighted = weighted + (TAPS[j] * y,)
        mean += weighted[j]
        power += weighted[j] * y
    rows = (mean, power)
    for k in tl.static_range(K):
        cross = tl.zeros(column.shape, tl.float32)
        for j in tl.static_range(len(TAPS)):
            cross += weighted[j] * load_tap(exposures + k * layer, j, column, width, 1, PADDED)
        rows = rows + (cross,)
    return rows


@triton.jit
def quality_kernel(
    fused,  # (B, H, W); this and all maps are contiguous
    exposures,  # (B, K, H, W)
    means,  # ma2015: (B, K, map); mefnet: of the chosen exposure, (B, map)
    gains,  # ma2015: (B, K, map); mefnet: None
    chosen,  # mefnet: the number of the exposure, int64 (B, map); ma2015: None
    variance,  # (B, map)
    luminance,  # mefnet: (B, map); ma2015: None
    sums,  # of cs over each program's part
    luminance_sums,  # mefnet: of the luminance factor
    by_power,  # d_p, d_c, d_μ and, of the luminance factor, d_μ: or None
    by_cross,
    by_mean,
    luminance_by_mean,
    shifts,
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
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    top: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    left: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    program = tl.program_id(0)
    batch, first, end, column = locate_strip(program, map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    # What lies beyond the map is computed like its last column, and not counted.
    from_column = tl.minimum(column, map_width - 1) - left
    layer = tl.cast(height, tl.int64) * width
    map_layer = tl.cast(map_height, tl.int64) * map_width
    fused += batch * layer
    exposures += batch * K * layer
    shift = plane_constant(fused, height, width, width, 1)
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
            spread = ring[size] - mean * mean
            here = tl.cast(done, tl.int64) * map_width + column
            at_map = batch * map_layer + here
            covariance = tl.zeros((COLUMNS,), tl.float32)
            level = tl.zeros((COLUMNS,), tl.float32)
            if gains is not None:
                for k in tl.static_range(K):
                    at_layer = (batch * K + k) * map_layer + here
                    gain = tl.load(gains + at_layer, mask=inside, other=0).to(tl.float32)
                    covariance += gain * ring[(2 + k) * size]
                    level += gain * tl.load(means + at_layer, mask=inside, other=0).to(tl.float32)
            else:
                number = tl.load(chosen + at_map, mask=inside, other=0)
                level += tl.load(means + at_map, mask=inside, other=0).to(tl.float32)
                for k in tl.static_range(K):
                    covariance = tl.where(number == k, ring[(2 + k) * size], covariance)
            covariance -= level * mean
            spread += tl.load(variance + at_map, mask=inside, other=0).to(tl.float32)
            inverse = 1.0 / (spread + c2)
            quality = (2 * covariance + c2) * inverse
            total += tl.where(inside, quality, 0.0)
            if luminance is not None:
                wanted = tl.load(luminance + at_map, mask=inside, other=0).to(tl.float32)
                brightness = mean + shift
                below = 1.0 / (brightness * brightness + wanted * wanted + c1)
                factor = (2 * brightness * wanted + c1) * below
                luminance_total += tl.where(inside, factor, 0.0)
                if luminance_by_mean is not None:
                    d = 2 * scale * below * (wanted - brightness * factor)
                    tl.store(luminance_by_mean + at_map, d, mask=inside)
            if by_power is not None:
                d_power = -scale * quality * inverse
                d_cross = 2 * scale * inverse
                tl.store(by_power + at_map, d_power, mask=inside)
                tl.store(by_cross + at_map, d_cross, mask=inside)
                tl.store(by_mean + at_map, -2 * mean * d_power - level * d_cross, mask=inside)
    if by_power is not None:
        # Not before the loop: which thread stores would be kept through it, and Triton 3.6 spills
        # that on sm_80.
        tl.store(shifts + batch, shift)
    tl.store(sums + program, tl.sum(total, axis=0))
    if luminance is not None:
        tl.store(luminance_sums + program, tl.sum(luminance_total, axis=0))


@triton.jit
def gained_rows(
    by_cross,
    gains,
    chosen,
    map_layer,
    column,
    width,
    K: tl.constexpr,
    TAPS: tl.constexpr,
):
    """One row of (g_1 d_c, …, g_K d_c), filtered along the row."""
    weighted = ()
    numbers = ()
    for j in tl.static_range(len(TAPS)):
        weighted = weighted + (TAPS[j] * load_tap(by_cross, j, column, width, 1, True),)
        if gains is None:
            x = column + j
            known = (x >= 0) & (x < width)
            numbers = numbers + (tl.load(chosen + j, mask=known, other=-1).to(tl.int32),)
    rows = ()
    for k in tl.static_range(K):
        total = tl.zeros(column.shape, tl.float32)
        for j in tl.static_range(len(TAPS)):
            if gains is not None:
                gain = load_tap(gains + k * map_layer, j, column, width, 1, True)
                total += weighted[j] * gain
            else:
                total += tl.where(numbers[j] == k, weighted[j], 0.0)
        rows = rows + (total,)
    return rows


@triton.jit
def quality_adjoint_kernel(
    fused,
    exposures,
    gains,
    chosen,
    by_power,
    by_cross,
    by_mean,
    luminance_by_mean,
    shifts,
    gradient,
    luminance_gradient,
    height,
    width,
    map_height,
    map_width,
    rows,
    K: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    # How far below and right of its pixel a window may begin.
    down: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    right: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    maps: tl.constexpr = 2 + K if luminance_by_mean is None else 3 + K
    batch, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    layer = tl.cast(height, tl.int64) * width
    map_layer = tl.cast(map_height, tl.int64) * map_width
    shift = tl.load(shifts + batch)
    from_map = batch * map_layer
    x = column + (right - len(TAPS_X) + 1)
    if gains is not None:
        gains += (batch * K) * map_layer
    ring = zero_rows(maps * size, COLUMNS)
    for row in range(first - size + 1, end):
        y = row + down
        present = present_width(y, map_height, map_width, True)
        at_row = tl.cast(y, tl.int64) * map_width + x
        at_map = from_map + at_row
        gains_row = None if gains is None else gains + at_row
        chosen_row = None if chosen is None else chosen + at_map
        filtered = (
            filter_row(by_power + at_map, x, present, TAPS_X),
            filter_row(by_mean + at_map, x, present, TAPS_X),
        ) + gained_rows(by_cross + at_map, gains_row, chosen_row, map_layer, x, present, K, TAPS_X)
        if luminance_by_mean is not None:
            filtered = filtered + (filter_row(luminance_by_mean + at_map, x, present, TAPS_X),)
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
            if luminance_by_mean is not None:
                result = stored(ring[(2 + K) * size], luminance_gradient.dtype.element_ty)
                tl.store(luminance_gradient + here, result, mask=inside)


_MAPS = ("by_power", "by_cross", "by_mean", "luminance_by_mean")


def _configuration(variant: str, count: int, adjoint: bool, gradient: bool = True) -> Configuration:
    kernel: Any = quality_adjoint_kernel if adjoint else quality_kernel
    is_mefnet = variant == "mefnet"
    absent = ["gains"] if is_mefnet else ["chosen", "luminance", "luminance_sums", _MAPS[-1]]
    absent += [] if is_mefnet else ["luminance_gradient"]
    absent += [] if gradient else [*_MAPS, "shifts"]
    absent = [x for x in kernel.arg_names if x in absent]
    constants = {**WINDOW, "K": count, "PADDED": is_mefnet, **dict.fromkeys(absent)}
    numbers = ("height", "width", "map_height", "map_width", "rows")
    given = {x: "*fp32:16" for x in kernel.arg_names if x not in constants and x not in numbers} | {
        x: "fp32" for x in ("c1", "c2", "scale") if x in kernel.arg_names
    }
    if is_mefnet:
        given["chosen"] = "*i64:16"
    maps = (4 if is_mefnet else 3) if gradient else 0
    read = (12 if is_mefnet else 4 + 8 * count) if not adjoint else 0
    read += 8 if is_mefnet else 4 * count * adjoint
    passes = "second pass" if adjoint else "first pass" if gradient else "values alone"
    return configuration(
        f"{variant}, {passes}, K = {count}",
        kernel,
        given,
        constants,
        4 + 4 * count + read + 4 * maps + (4 * (1 + is_mefnet) if adjoint else 0),
        resident=ARITHMETIC if count <= 3 else MANY_MAPS,
    )


CONFIGURATIONS = [
    _configuration(variant, count, adjoint)
    for variant in ("ma2015", "mefnet")
    for count in (2, 3, 5)
    for adjoint in (False, True)
] + [_configuration(variant, 2, False, gradient=False) for variant in ("ma2015", "mefnet")]
