r"""local_variance: :math:`V = \max(w * I^2 - (w * I)^2, f)`, and its gradient.

.. math::
    \partial L / \partial I = 2 I (w * d) - 2\, w * (d\,\mu), \quad
    d = \partial L / \partial V \cdot [V \ge f], \quad \mu = w * I

The forward pass is one launch. The backward pass takes two: the first writes d and dμ, the second
filters them (:mod:`.backward`). A constant of the plane is subtracted from the pixels and from the
zeros of the padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import MARGINS, WINDOW, configuration, with_window
from ..common.launching import BYTES, BYTES_IN_FLIGHT, Layout, compiled_for, launch
from ..common.maps import clear_margins, map_offset, margins, new_maps, store_maps
from ..common.reflect_pad import reflect_pad, reflect_pad_backward
from ..common.tiles import stored
from ..common.windows import (
    Taps,
    Windows,
    columns_each,
    load_tap,
    locate_strip,
    plane_constant,
    present_width,
    push,
    row_at,
    single,
    strip_programs,
    strip_rows,
    windows_of,
    zero_rows,
)
from .backward import attributes_backward

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration

# Maps are moved by vectors. A thread loads single values of an image: its sizes, its address and
# the other strides make no difference to the code.
ALIGNED_MAPS = ("maps",)
MAPS = 2  # of a ring


@triton.jit
def moment_rows(
    pointer,
    shift,
    column,
    width,
    column_stride,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    EACH: tl.constexpr = 1,
):
    """One row of (x, x²), x the image minus ``shift``, filtered along the row.

    At EACH neighbouring columns, which share what they load.
    """
    last: tl.constexpr = len(TAPS) - 1
    middle: tl.constexpr = len(TAPS) // 2
    values = ()
    squares = ()
    for j in tl.static_range(len(TAPS) + EACH - 1):
        # Only the first of EACH columns is sure to exist.
        x = load_tap(pointer, j, column, width, column_stride, PADDED or j > last) - shift
        values = values + (x,)
        squares = squares + (x * x,)
    rows = ()
    for c in tl.static_range(EACH):
        mean = TAPS[middle] * values[c + middle]
        second_moment = TAPS[middle] * squares[c + middle]
        # The taps are symmetric, so two pixels have the same tap.
        for j in tl.static_range(middle):
            mean += TAPS[j] * (values[c + j] + values[c + last - j])
            second_moment += TAPS[j] * (squares[c + j] + squares[c + last - j])
        rows = rows + (mean, second_moment)
    return rows


@compiled_for(
    Layout(ones=("image_column",), multiples=ALIGNED_MAPS), Layout(multiples=ALIGNED_MAPS)
)
def variance_kernel(
    images,
    grad_output,  # dL/dV; None in the forward pass
    out,  # V; None in the backward pass
    maps,  # backward: (d, dμ)
    shifts,  # backward: the constants of the planes
    means,  # μ, or None
    sums,  # the sum of μ over each program's strip, or None
    height,
    width,
    map_height,
    map_width,
    rows,
    floor,
    image_plane,
    image_row,
    image_column,
    grad_output_plane,
    grad_output_row,
    grad_output_column,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
    EACH: tl.constexpr,
):
    """Compute V in a strip of windows, or with ``grad_output`` the derivative maps."""
    size: tl.constexpr = len(TAPS_Y)
    top: tl.constexpr = len(TAPS_Y) // 2 if PADDED else 0
    left: tl.constexpr = len(TAPS_X) // 2 if PADDED else 0
    program = tl.program_id(0)
    plane, first, end, column = locate_strip(program, map_height, map_width, rows, COLUMNS, EACH)
    image_step = tl.cast(image_row, tl.int64)
    grad_output_step = tl.cast(grad_output_row, tl.int64)
    # Lanes beyond the map repeat its last column and are not stored.
    from_column = tl.minimum(column, map_width - 1) - left
    images += plane * image_plane
    shift = plane_constant(images, height, width, image_row, image_column)
    if grad_output is not None:
        grad_output += plane * grad_output_plane
        tl.store(shifts + plane, shift)
        clear_margins(
            maps, 0, plane, first, end, column, map_height, map_width, 2, MARGIN_Y, MARGIN_X, EACH
        )
    ring = zero_rows(2 * EACH * size, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    # Pointers step from row to row, so that no product is formed in the loop: those to images from
    # the first row that is read, the others from that of the window that ends there.
    at = row_at(images, first - top, from_column, image_row, image_column)
    done = first - (size - 1)
    here = plane * map_height * map_width + tl.cast(done, tl.int64) * map_width + column
    if grad_output is not None:
        at_grad = row_at(grad_output, done, column, grad_output_row, grad_output_column)
        at_map = map_offset(plane, done, column, map_height, map_width, MARGIN_Y, MARGIN_X)
    for row in range(first - top, end - top + size - 1):
        present = present_width(row, height, width, PADDED)
        filtered = moment_rows(at, shift, from_column, present, image_column, TAPS_X, PADDED, EACH)
        ring = push(ring, filtered, TAPS_Y)
        if row >= first - top + (size - 1):
            for c in tl.static_range(EACH):
                inside = column + c < map_width
                mean = ring[2 * c * size]
                variance = ring[(2 * c + 1) * size] - mean * mean
                if grad_output is not None:
                    at_window = at_grad + c * tl.cast(grad_output_column, tl.int64)
                    d = tl.load(at_window, mask=inside, other=0).to(tl.float32)
                    d = tl.where(variance >= floor, d, 0.0)
                    store_maps(maps, at_map + c, 0, (d, d * mean), inside)
                else:
                    # A comparison with NaN is false, so NaN is kept.
                    variance = tl.where(variance < floor, floor, variance)
                    variance = stored(variance, out.dtype.element_ty)
                    tl.store(out + here + c, variance, mask=inside)
                if means is not None:
                    tl.store(means + here + c, mean + shift, mask=inside)
                    total += tl.where(inside, mean + shift, 0.0)
        at += image_step
        here += map_width
        if grad_output is not None:
            at_grad += grad_output_step
            at_map += map_width + 2 * MARGIN_X
    if means is not None:
        tl.store(sums + program, tl.sum(total, axis=0))


def launch_variance(
    images: Tensor,
    windows: Windows,
    floor: float,
    out: Tensor | None,
    grad_output: Tensor | None = None,
    maps: Tensor | None = None,
    shifts: Tensor | None = None,
    means: Tensor | None = None,
    sums: Tensor | None = None,
) -> None:
    """Fill ``out``, ``means`` and ``sums``, or with ``grad_output`` the derivative ``maps``."""
    planes, height, width = images.shape
    size = windows.map_height, windows.map_width
    each = columns_each(windows.taps_y, MAPS)
    rows = strip_rows(planes, *size, each)
    launch(
        variance_kernel,
        strip_programs(planes, *size, rows, each),
        images.device,
        images,
        grad_output,
        out,
        maps,
        shifts,
        means,
        sums,
        height,
        width,
        *size,
        rows,
        floor,
        *images.stride(),
        *((0, 0, 0) if grad_output is None else grad_output.stride()),
        PADDED=windows.padded,
        EACH=each,
        **margins(windows)._asdict(),
        **windows.constants,
    )


def local_variance(images: Tensor, taps: Taps, floor: float, border: str) -> Tensor:
    """Return V ``(N, H', W')`` of images ``(N, H, W)``."""
    windows = windows_of(images, taps, border == "zero")
    if border == "reflect":
        images, windows = reflect_pad(images, windows)
    out = images.new_empty((images.shape[0], windows.map_height, windows.map_width))
    launch_variance(images, windows, floor, out)
    return out


def local_variance_backward(
    grad_output: Tensor, images: Tensor, taps: Taps, floor: float, border: str
) -> Tensor:
    """Return the gradient w.r.t. the images."""
    windows = windows_of(images, taps, border == "zero")
    dtype = images.dtype
    if border == "reflect":
        images, windows = reflect_pad(images, windows)
    maps, shifts = new_maps(images, len(images), 2, windows), single(images, len(images))
    launch_variance(images, windows, floor, None, grad_output, maps, shifts)
    gradient = (
        single(images, *images.shape) if border == "reflect" else images.new_empty(images.shape)
    )
    attributes_backward(images, windows, gradient, shifts, maps)
    return reflect_pad_backward(gradient, windows, dtype) if border == "reflect" else gradient


def _configuration(
    dtype: str, border: str, backward: bool = False, layout: int = 0
) -> Configuration:
    """Return a variant of the forward pass or of the first backward pass."""
    given = {"images": f"*{dtype}", "floor": "fp32"}
    if backward:
        given |= {"grad_output": f"*{dtype}", "maps": "*fp32", "shifts": "*fp32"}
    else:
        given |= {"out": f"*{dtype}"}
    absent = ("grad_output", "out", "maps", "shifts", "means", "sums")
    size = BYTES[dtype]
    return configuration(
        f"local_variance{' backward, first pass' if backward else ''}, {border} border, {dtype}"
        + (", any strides" if layout else ""),
        variance_kernel,
        given,
        {
            **WINDOW,
            "PADDED": border == "zero",
            "EACH": 2,
            **MARGINS[border],
            **{x: None for x in absent if x not in given},
        },
        2 * size + (8 if backward else 0),
        resident=BYTES_IN_FLIGHT,
        layout=layout,
    )


CONFIGURATIONS = [
    *(_configuration(dtype, "valid") for dtype in ("fp16", "bf16", "fp32")),
    _configuration("fp32", "zero"),
    *(_configuration("fp32", border, backward=True) for border in ("valid", "zero")),
    *(_configuration("fp32", "zero", backward, layout=1) for backward in (False, True)),
    *(
        with_window(_configuration("fp32", "valid", backward), window, each)
        for backward in (False, True)
        for window, each in ((27, 2), (55, 1))
    ),
]
