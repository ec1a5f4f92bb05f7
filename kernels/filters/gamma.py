r"""gamma_weights: :math:`\gamma_k = A_k / (\sum_j A_j + \varepsilon)`, A a product of V, S and E

.. math::
    \frac{\partial L}{\partial A_k}
        = \frac{\varepsilon u_k + \sum_j (u_k - u_j) A_j}{(\sum_j A_j + \varepsilon)^2}, \quad
    u = \frac{\partial L}{\partial \gamma}

(in this form nothing is left where one exposure has all the weight)

One pass forward, whichever attributes are named: a program marches down the same strip of all K
exposures. Backward, the same pass writes what V, S and E leave to their adjoints
(:mod:`.backward`), which are the second pass. The rings take 2 K registers for each row of the
window: beyond 5 exposures they spill, and results stay right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import WINDOW, configuration
from ..common.launching import ARITHMETIC, BYTES, BYTES_ON_THE_WAY, MANY_MAPS, launch
from ..common.tiles import stored
from ..common.windows import (
    Taps,
    Windows,
    locate_strip,
    plane_constant,
    push,
    row_at,
    single,
    strip_programs,
    strip_rows,
    windows_of,
    zero_rows,
)
from .backward import attributes_gradient
from .sobel import magnitude_at
from .variance import moment_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration


@triton.jit
def gamma_kernel(
    exposures,
    upstream,  # u, or None: then γ is wanted
    out,  # γ; with u: those of d, dμ, dL/dS and e that are wanted, each (B, K, map)
    shifts,  # the constants of the planes, where d is wanted
    height,
    width,
    map_height,
    map_width,
    part,  # elements of one of the maps in out
    rows,
    floor,
    eps,
    image_batch,
    image_layer,
    image_row,
    image_column,
    upstream_batch,
    upstream_layer,
    upstream_row,
    upstream_column,
    K: tl.constexpr,
    VARIANCE: tl.constexpr,
    GRADIENT: tl.constexpr,
    EXPOSEDNESS: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    center_y: tl.constexpr = len(TAPS_Y) // 2
    center_x: tl.constexpr = len(TAPS_X) // 2
    before: tl.constexpr = size - 1 if VARIANCE else 0
    batch, first, end, column = locate_strip(tl.program_id(0), map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    from_column = tl.minimum(column, map_width - 1)
    exposures += batch * image_batch
    image_layer = tl.cast(image_layer, tl.int64)
    upstream_layer = tl.cast(upstream_layer, tl.int64)
    layer = tl.cast(map_height, tl.int64) * map_width
    to = out + batch * K * layer + column
    if upstream is not None:
        upstream += batch * upstream_batch
    shift = ()
    if VARIANCE:
        for k in tl.static_range(K):
            image = exposures + k * image_layer
            shift = shift + (plane_constant(image, height, width, image_row, image_column),)
            if upstream is not None:
                tl.store(shifts + batch * K + k, shift[k])
        ring = zero_rows(2 * K * size, COLUMNS)
    for row in range(first, end + before):
        if VARIANCE:
            filtered = ()
            for k in tl.static_range(K):
                at = row_at(exposures + k * image_layer, row, from_column, image_row, image_column)
                filtered = filtered + moment_rows(
                    at, shift[k], from_column, width, image_column, TAPS_X, False
                )
            ring = push(ring, filtered, TAPS_Y)
        done = row - before
        if done >= first:
            here = to + tl.cast(done, tl.int64) * map_width
            factors = ()
            products = ()
            total = tl.zeros((COLUMNS,), tl.float32)
            for k in tl.static_range(K):
                image = exposures + k * image_layer
                y = done + center_y
                x = from_column + center_x
                at = row_at(image, y, x, image_row, image_column)
                variance = 1.0
                if VARIANCE:
                    variance = ring[2 * k * size + size]
                    variance -= ring[2 * k * size] * ring[2 * k * size]
                    variance = tl.where(variance < floor, floor, variance)
                gradient = 1.0
                if GRADIENT:
                    gradient = magnitude_at(
                        at, y, x, height, width, image_row, image_column, len(TAPS_X) == 1
                    )
                exposedness = 1.0
                if EXPOSEDNESS:
                    offset = tl.load(at).to(tl.float32) - 0.5
                    exposedness = tl.exp(-12.5 * offset * offset)
                factors = factors + (variance, gradient, exposedness)
                products = products + (variance * gradient * exposedness,)
                total += products[k]
            inverse = 1.0 / (total + eps)
            if upstream is None:
                for k in tl.static_range(K):
                    gamma = products[k] * inverse
                    tl.store(here + k * layer, stored(gamma, out.dtype.element_ty), mask=inside)
            else:
                given = ()
                for k in tl.static_range(K):
                    at = upstream + k * upstream_layer
                    at = row_at(at, done, column, upstream_row, upstream_column)
                    u = tl.load(at, mask=inside, other=0).to(tl.float32)
                    given = given + (u,)
                for k in tl.static_range(K):
                    difference = given[k] * eps
                    for j in tl.static_range(K):
                        difference += (given[k] - given[j]) * products[j]
                    by_product = difference * inverse * inverse
                    variance = factors[3 * k]
                    gradient = factors[3 * k + 1]
                    exposedness = factors[3 * k + 2]
                    into = here + k * layer
                    if VARIANCE:
                        mu = ring[2 * k * size]
                        unclamped = ring[2 * k * size + size] - mu * mu
                        d = by_product * gradient * exposedness
                        d = tl.where(unclamped >= floor, d, 0.0)
                        tl.store(into, d, mask=inside)
                        # Step by step: 2 * part may not fit 32 bits.
                        into += part
                        tl.store(into, d * mu, mask=inside)
                        into += part
                    if GRADIENT:
                        tl.store(into, by_product * variance * exposedness, mask=inside)
                        into += part
                    if EXPOSEDNESS:
                        at = row_at(
                            exposures + k * image_layer,
                            done + center_y,
                            from_column + center_x,
                            image_row,
                            image_column,
                        )
                        offset = tl.load(at).to(tl.float32) - 0.5
                        e = by_product * variance * gradient * exposedness * (-25.0 * offset)
                        tl.store(into, e, mask=inside)


def launch_gamma(
    exposures: Tensor,
    attributes: str,
    windows: Windows,
    floor: float,
    eps: float,
    out: Tensor,
    part: int = 0,
    upstream: Tensor | None = None,
    shifts: Tensor | None = None,
) -> None:
    batch, count, height, width = exposures.shape
    size = windows.map_height, windows.map_width
    rows = strip_rows(batch, *size)
    launch(
        gamma_kernel,
        strip_programs(batch, *size, rows),
        exposures.device,
        exposures,
        upstream,
        out,
        shifts,
        height,
        width,
        *size,
        part,
        rows,
        floor,
        eps,
        *exposures.stride(),
        *((0, 0, 0, 0) if upstream is None else upstream.stride()),
        K=count,
        VARIANCE="variance" in attributes,
        GRADIENT="gradient" in attributes,
        EXPOSEDNESS="well_exposedness" in attributes,
        **windows.constants,
    )


def gamma_weights(
    exposures: Tensor, attributes: str, taps: Taps, floor: float, eps: float
) -> Tensor:
    windows = windows_of(exposures, taps, False)
    out = exposures.new_empty((*exposures.shape[:2], windows.map_height, windows.map_width))
    launch_gamma(exposures, attributes, windows, floor, eps, out)
    return out


def gamma_weights_backward(
    upstream: Tensor,
    exposures: Tensor,
    attributes: str,
    taps: Taps,
    floor: float,
    eps: float,
) -> Tensor:
    windows = windows_of(exposures, taps, False)
    has_variance = "variance" in attributes
    names = ["variances", "products"] if has_variance else []
    names += ["sobels"] if "gradient" in attributes else []
    names += ["pointwise"] if "well_exposedness" in attributes else []
    maps = single(exposures, len(names), *upstream.shape)
    shifts = single(exposures, *exposures.shape[:2]) if has_variance else None
    launch_gamma(
        exposures, attributes, windows, floor, eps, maps, upstream.numel(), upstream, shifts
    )
    gradient = exposures.new_empty(exposures.shape)
    planes = (x.flatten(0, 1) for x in maps)
    attributes_gradient(
        exposures.flatten(0, 1),
        windows,
        gradient.flatten(0, 1),
        shifts,
        **dict(zip(names, planes, strict=True)),
    )
    return gradient


def _configuration(
    count: int, attributes: str, dtype: str = "fp32", backward: bool = False
) -> Configuration:
    given = {"exposures": f"*{dtype}:16", "out": "*fp32:16" if backward else f"*{dtype}:16"}
    given |= {"floor": "fp32", "eps": "fp32"}
    if backward:
        given |= {"upstream": f"*{dtype}:16", "shifts": "*fp32:16"}
    names = ("variance", "gradient", "well_exposedness")
    used = [x in attributes for x in names]
    size = BYTES[dtype]
    part = " backward, first pass" if backward else ""
    label = " × ".join(x.split("_")[-1] for x, is_used in zip(names, used, strict=True) if is_used)
    maps = sum(used) + used[0] if backward else 0
    return configuration(
        f"gamma_weights{part}, {label}, K = {count}, {dtype}",
        gamma_kernel,
        given,
        {
            **WINDOW,
            "K": count,
            "VARIANCE": used[0],
            "GRADIENT": used[1],
            "EXPOSEDNESS": used[2],
            "image_column": 1,
            "upstream_column": 1,
            **{x: None for x in ("upstream", "shifts") if x not in given},
        },
        count * (2 * size + 4 * maps),
        resident={2: BYTES_ON_THE_WAY, 3: ARITHMETIC}.get(count, MANY_MAPS),
    )


_ALL = "variance_gradient_well_exposedness"
CONFIGURATIONS = [
    *(_configuration(2, "variance_gradient", dtype) for dtype in ("fp16", "bf16", "fp32")),
    *(_configuration(count, _ALL) for count in (2, 3, 5)),
    _configuration(2, "gradient_well_exposedness"),
    *(_configuration(count, _ALL, backward=True) for count in (2, 3, 5)),
]
