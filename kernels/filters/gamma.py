r"""gamma_weights: :math:`\gamma_k = A_k / (\sum_j A_j + \varepsilon)`, A a product of V, S and E.

.. math::
    \frac{\partial L}{\partial A_k}
        = \frac{\varepsilon u_k + \sum_j (u_k - u_j) A_j}{(\sum_j A_j + \varepsilon)^2}, \quad
    u = \frac{\partial L}{\partial \gamma}

In this form nothing cancels for an exposure that has all the weight.

The forward pass is one launch for any attributes: a program marches down the same strip of all K
exposures. In the backward pass the same kernel writes derivative maps of V, S and E, which a second
launch turns into the gradient (:mod:`.backward`). The rings take 2 K registers for each row of the
window; beyond 5 exposures they spill, and results stay correct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.configurations import MARGINS, WINDOW, configuration, with_window
from ..common.launching import (
    ARITHMETIC,
    BYTES,
    BYTES_IN_FLIGHT,
    MANY_MAPS,
    Layout,
    compiled_for,
    launch,
)
from ..common.maps import clear_margins, map_area, map_offset, margins, new_maps, store_maps
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
from .attributes import attributes_at
from .backward import attributes_backward
from .sobel import scaled_differences
from .variance import moment_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration

_MAPS = ("variances", "sobels")


@compiled_for(Layout(ones=("image_column",), multiples=_MAPS), Layout(multiples=_MAPS))
def gamma_kernel(
    exposures,
    grad_output,  # u; None in the forward pass
    out,  # γ; None in the backward pass
    variances,  # backward: maps (d, dμ) of B K planes, if VARIANCE
    sobels,  # backward: maps (a, b), if GRADIENT
    pointwise,  # backward: map e, if EXPOSEDNESS
    shifts,  # backward: the constants of the planes, if VARIANCE
    height,
    width,
    map_height,
    map_width,
    rows,
    floor,
    eps,
    image_batch,
    image_layer,
    image_row,
    image_column,
    grad_output_batch,
    grad_output_layer,
    grad_output_row,
    grad_output_column,
    K: tl.constexpr,
    VARIANCE: tl.constexpr,
    GRADIENT: tl.constexpr,
    EXPOSEDNESS: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute γ in a strip of windows, or with ``grad_output`` the derivative maps."""
    size: tl.constexpr = len(TAPS_Y)
    center_y: tl.constexpr = len(TAPS_Y) // 2
    center_x: tl.constexpr = len(TAPS_X) // 2
    before: tl.constexpr = size - 1 if VARIANCE else 0
    batch, first, end, column = locate_strip(tl.program_id(0), map_height, map_width, rows, COLUMNS)
    inside = column < map_width
    from_column = tl.minimum(column, map_width - 1)
    exposures += batch * image_batch
    image_layer = tl.cast(image_layer, tl.int64)
    grad_output_layer = tl.cast(grad_output_layer, tl.int64)
    layer = tl.cast(map_height, tl.int64) * map_width
    if grad_output is not None:
        grad_output += batch * grad_output_batch
        for k in tl.static_range(K):
            plane = batch * K + k
            if VARIANCE:
                clear_margins(
                    variances,
                    0,
                    plane,
                    first,
                    end,
                    column,
                    map_height,
                    map_width,
                    2,
                    MARGIN_Y,
                    MARGIN_X,
                )
            if GRADIENT:
                clear_margins(
                    sobels,
                    0,
                    plane,
                    first,
                    end,
                    column,
                    map_height,
                    map_width,
                    2,
                    MARGIN_Y,
                    MARGIN_X,
                )
            if EXPOSEDNESS:
                clear_margins(
                    pointwise,
                    0,
                    plane,
                    first,
                    end,
                    column,
                    map_height,
                    map_width,
                    1,
                    MARGIN_Y,
                    MARGIN_X,
                )
    shift = ()
    if VARIANCE:
        for k in tl.static_range(K):
            image = exposures + k * image_layer
            shift = shift + (plane_constant(image, height, width, image_row, image_column),)
            if grad_output is not None:
                tl.store(shifts + batch * K + k, shift[k])
        ring = zero_rows(2 * K * size, COLUMNS)
    # Pointers step from row to row, so that no product is formed in the loop: that to the exposures
    # from the first row that is read, the others from that of the window that ends there.
    at = row_at(exposures, first, from_column, image_row, image_column)
    image_step = tl.cast(image_row, tl.int64)
    to_center = (center_y - before) * image_step + center_x * tl.cast(image_column, tl.int64)
    here = batch * K * layer + tl.cast(first - before, tl.int64) * map_width + column
    if grad_output is not None:
        at_grad = row_at(grad_output, first - before, column, grad_output_row, grad_output_column)
        grad_output_step = tl.cast(grad_output_row, tl.int64)
        map_layer = map_area(1, map_height, map_width, MARGIN_Y, MARGIN_X)
    for row in range(first, end + before):
        if VARIANCE:
            filtered = ()
            for k in tl.static_range(K):
                filtered = filtered + moment_rows(
                    at + k * image_layer,
                    shift[k],
                    from_column,
                    width,
                    image_column,
                    TAPS_X,
                    False,
                )
            ring = push(ring, filtered, TAPS_Y)
        if row >= first + before:
            factors = ()
            products = ()
            total = tl.zeros((COLUMNS,), tl.float32)
            y = row - before + center_y
            x = from_column + center_x
            center = at + to_center
            for k in tl.static_range(K):
                found = attributes_at(
                    center + k * image_layer,
                    y,
                    x,
                    ring[2 * k * size] if VARIANCE else None,
                    ring[2 * k * size + size] if VARIANCE else None,
                    height,
                    width,
                    image_row,
                    image_column,
                    floor,
                    VARIANCE,
                    GRADIENT,
                    EXPOSEDNESS,
                    len(TAPS_X) == 1 or len(TAPS_Y) == 1,
                )
                factors = factors + (found,)
                products = products + (found[0] * found[1] * found[2],)
                total += products[k]
            inverse = 1.0 / (total + eps)
            if grad_output is None:
                for k in tl.static_range(K):
                    gamma = products[k] * inverse
                    to = out + here + k * layer
                    tl.store(to, stored(gamma, out.dtype.element_ty), mask=inside)
            else:
                # Not carried through the loop: five exposures leave no register for it on sm_80.
                at_map = map_offset(
                    batch * K, row - before, column, map_height, map_width, MARGIN_Y, MARGIN_X
                )
                grads = ()
                for k in tl.static_range(K):
                    u = tl.load(at_grad + k * grad_output_layer, mask=inside, other=0)
                    u = u.to(tl.float32)
                    grads = grads + (u,)
                for k in tl.static_range(K):
                    difference = grads[k] * eps
                    for j in tl.static_range(K):
                        difference += (grads[k] - grads[j]) * products[j]
                    grad_product = difference * inverse * inverse
                    variance, magnitude, exposedness, across, down = factors[k]
                    to = at_map + k * map_layer
                    if VARIANCE:
                        mu = ring[2 * k * size]
                        unclamped = ring[2 * k * size + size] - mu * mu
                        d = grad_product * magnitude * exposedness
                        d = tl.where(unclamped >= floor, d, 0.0)
                        values = (d, d * mu)
                        store_maps(variances, to, 0, values, inside)
                    if GRADIENT:
                        d = grad_product * variance * exposedness
                        values = scaled_differences(d, across, down, inside)
                        store_maps(sobels, to, 0, values, inside)
                    if EXPOSEDNESS:
                        offset = tl.load(center + k * image_layer).to(tl.float32) - 0.5
                        e = grad_product * variance * magnitude * exposedness * (-25.0 * offset)
                        store_maps(pointwise, to, 0, (e,), inside)
        at += image_step
        here += map_width
        if grad_output is not None:
            at_grad += grad_output_step


def launch_gamma(
    exposures: Tensor,
    attributes: str,
    windows: Windows,
    floor: float,
    eps: float,
    out: Tensor | None = None,
    grad_output: Tensor | None = None,
    shifts: Tensor | None = None,
    variances: Tensor | None = None,
    sobels: Tensor | None = None,
    pointwise: Tensor | None = None,
) -> None:
    """Fill ``out``, or with ``grad_output`` the derivative maps of the backward pass."""
    batch, count, height, width = exposures.shape
    size = windows.map_height, windows.map_width
    rows = strip_rows(batch, *size)
    launch(
        gamma_kernel,
        strip_programs(batch, *size, rows),
        exposures.device,
        exposures,
        grad_output,
        out,
        variances,
        sobels,
        pointwise,
        shifts,
        height,
        width,
        *size,
        rows,
        floor,
        eps,
        *exposures.stride(),
        *((0, 0, 0, 0) if grad_output is None else grad_output.stride()),
        K=count,
        VARIANCE="variance" in attributes,
        GRADIENT="gradient" in attributes,
        EXPOSEDNESS="well_exposedness" in attributes,
        **margins(windows)._asdict(),
        **windows.constants,
    )


def gamma_weights(
    exposures: Tensor, attributes: str, taps: Taps, floor: float, eps: float
) -> Tensor:
    """Return γ ``(B, K, H', W')`` of exposures ``(B, K, H, W)``."""
    windows = windows_of(exposures, taps, False)
    out = exposures.new_empty((*exposures.shape[:2], windows.map_height, windows.map_width))
    launch_gamma(exposures, attributes, windows, floor, eps, out)
    return out


def gamma_weights_backward(
    grad_output: Tensor,
    exposures: Tensor,
    attributes: str,
    taps: Taps,
    floor: float,
    eps: float,
) -> Tensor:
    """Return the gradient w.r.t. the exposures."""
    windows = windows_of(exposures, taps, False)
    planes = exposures.flatten(0, 1)
    maps = {
        name: new_maps(exposures, len(planes), count, windows)
        for name, attribute, count in (
            ("variances", "variance", 2),
            ("sobels", "gradient", 2),
            ("pointwise", "well_exposedness", 1),
        )
        if attribute in attributes
    }
    shifts = single(exposures, len(planes)) if "variances" in maps else None
    launch_gamma(exposures, attributes, windows, floor, eps, None, grad_output, shifts, **maps)
    gradient = exposures.new_empty(exposures.shape)
    attributes_backward(planes, windows, gradient.flatten(0, 1), shifts, **maps)
    return gradient


def _configuration(
    count: int, attributes: str, dtype: str = "fp32", backward: bool = False, layout: int = 0
) -> Configuration:
    """Return a variant for K = ``count`` and the attributes in a name."""
    given = {"exposures": f"*{dtype}", "floor": "fp32", "eps": "fp32"}
    names = ("variance", "gradient", "well_exposedness")
    used = [x in attributes for x in names]
    backward_tensors = ["grad_output", "shifts", "variances", "sobels", "pointwise"]
    if backward:
        given |= {"grad_output": f"*{dtype}", "shifts": "*fp32"}
        maps = zip(backward_tensors[2:], used, strict=True)
        given |= {name: "*fp32" for name, is_used in maps if is_used}
    else:
        given |= {"out": f"*{dtype}"}
    size = BYTES[dtype]
    part = " backward, first pass" if backward else ""
    label = " × ".join(x.split("_")[-1] for x, is_used in zip(names, used, strict=True) if is_used)
    written = 4 * (sum(used) + used[0] + used[1]) + size if backward else size
    return configuration(
        f"gamma_weights{part}, {label}, K = {count}, {dtype}" + (", any strides" if layout else ""),
        gamma_kernel,
        given,
        {
            **WINDOW,
            "K": count,
            "VARIANCE": used[0],
            "GRADIENT": used[1],
            "EXPOSEDNESS": used[2],
            **MARGINS["valid"],
            **{x: None for x in ("out", *backward_tensors) if x not in given},
        },
        count * (size + written),
        resident=_resident(count, backward, layout),
        layout=layout,
    )


def _resident(count: int, backward: bool, layout: int) -> int:
    """Return the warps that must fit; single values and more maps take registers."""
    if count == 2:
        return ARITHMETIC if layout else BYTES_IN_FLIGHT
    return ARITHMETIC if count == 3 and not backward else MANY_MAPS


_ALL = "variance_gradient_well_exposedness"
CONFIGURATIONS = [
    *(_configuration(2, "variance_gradient", dtype) for dtype in ("fp16", "bf16", "fp32")),
    *(_configuration(count, _ALL) for count in (2, 3, 5)),
    _configuration(2, "gradient_well_exposedness"),
    _configuration(2, "variance_gradient", backward=True),
    *(_configuration(count, _ALL, backward=True) for count in (2, 3, 5)),
    *(_configuration(2, _ALL, backward=backward, layout=1) for backward in (False, True)),
    *(
        with_window(_configuration(count, _ALL, backward=backward), window)
        for count, window in ((1, 55), (2, 27), (3, 17), (4, 13))
        for backward in (False, True)
    ),
]
