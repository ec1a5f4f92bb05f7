r"""The gradient by an image of the maps that importance is made of, one pass

.. math::
    \partial L / \partial I = 2 (I - c) (w * d) - 2\, w * (d \mu)
        + \mathrm{Sobel}^T(\partial L / \partial S) + e

d and dμ belong to the local variance (:mod:`.variance`), the Sobel magnitude S to :mod:`.sobel`,
and e to what depends on the pixel alone. Each part may be absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ..common.configurations import WINDOW, configuration
from ..common.launching import ARITHMETIC, BYTES, launch
from ..common.tiles import stored
from ..common.windows import (
    Windows,
    filter_row,
    locate_strip,
    present_width,
    push,
    row_at,
    strip_programs,
    strip_rows,
    within,
    zero_rows,
)
from .sobel import edge_shares, load_beside, push_sobel, push_sobel_backward, sobel_ring

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration


@triton.jit
def attributes_adjoint_kernel(
    images,
    shifts,  # c of every plane, or None without variances
    variances,  # d, or None
    products,  # dμ, or None
    sobels,  # dL/dS, or None
    pointwise,  # e, or None
    gradient,
    height,
    width,
    map_height,
    map_width,
    rows,
    image_plane,
    image_row,
    image_column,
    sobel_plane,
    sobel_row,
    sobel_column,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    size: tl.constexpr = len(TAPS_Y)
    # Of the windows' centres in the map; what is not padded begins that much further inside.
    center_y: tl.constexpr = len(TAPS_Y) // 2
    center_x: tl.constexpr = len(TAPS_X) // 2
    top: tl.constexpr = 0 if PADDED else center_y
    left: tl.constexpr = 0 if PADDED else center_x
    # Rows of the march before the first pixel.
    before: tl.constexpr = max(0 if variances is None else size - 1, 0 if sobels is None else 4)
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    inside = column < width
    images += plane * image_plane
    gradient += plane * height * width + column
    from_map = plane * map_height * map_width
    if variances is not None:
        variances += from_map
        products += from_map
        shift = tl.load(shifts + plane)
        ring = zero_rows(2 * size, COLUMNS)
    if sobels is not None:
        sobels += plane * sobel_plane
        from_column = tl.minimum(column, width - 1)
        own_share, own_sum = edge_shares(column, width)
        pixels = sobel_ring(3, COLUMNS)
        open_rows = zero_rows(2, COLUMNS)
        # Whether the map has the columns left of, at and right of each pixel.
        in_columns = ()
        for j in tl.static_range(3):
            x = column + (j - 1) - left
            in_columns = in_columns + ((x >= 0) & (x < map_width),)
    if pointwise is not None:
        pointwise += from_map
    for row in range(first - before, end):
        if variances is not None:
            y = row + center_y - top
            x = column - center_x - left
            present = present_width(y, map_height, map_width, True)
            d = row_at(variances, y, x, map_width, 1)
            by_mean = row_at(products, y, x, map_width, 1)
            filtered = (
                filter_row(d, x, present, TAPS_X),
                filter_row(by_mean, x, present, TAPS_X),
            )
            ring = push(ring, filtered, TAPS_Y)
        if sobels is not None:
            y = tl.minimum(tl.maximum(row + 2, 0), height - 1)
            at = row_at(images, y, from_column, image_row, image_column)
            beside = load_beside(at, from_column, width, image_column, 2)
            sobel, pixels = push_sobel(pixels, beside, 3)
            y = row + 1 - top
            # A block, because the interpreter cannot & a condition on a number.
            y_block = y + tl.zeros_like(column)
            in_map = (y_block >= 0) & (y_block < map_height)
            at = row_at(sobels, y, column - left, sobel_row, sobel_column)
            step = tl.cast(sobel_column, tl.int64)
            grad_output = ()
            has_window = ()
            for j in tl.static_range(3):
                has_window = has_window + (in_columns[j] & in_map,)
                value = tl.load(at + (j - 1) * step, mask=has_window[j], other=0)
                grad_output = grad_output + (value.to(tl.float32),)
            through_sobel, open_rows = push_sobel_backward(
                open_rows, sobel, grad_output, has_window, own_share, own_sum, row + 1, height
            )
        if row >= first:
            total = tl.zeros((COLUMNS,), tl.float32)
            if variances is not None:
                at = row_at(images, row, column, image_row, image_column)
                value = tl.load(at, mask=inside, other=0).to(tl.float32) - shift
                total += 2 * (value * ring[0] - ring[size])
            if sobels is not None:
                total += through_sobel
            if pointwise is not None:
                y = row - top
                x = column - left
                known = within(y, x, map_height, map_width)
                total += tl.load(row_at(pointwise, y, x, map_width, 1), mask=known, other=0)
            to = gradient + tl.cast(row, tl.int64) * width
            tl.store(to, stored(total, gradient.dtype.element_ty), mask=inside)


def attributes_gradient(
    images: Tensor,
    windows: Windows,
    gradient: Tensor,
    shifts: Tensor | None = None,
    variances: Tensor | None = None,
    products: Tensor | None = None,
    sobels: Tensor | None = None,
    pointwise: Tensor | None = None,
) -> None:
    """Fills ``gradient``. Images are ``(N, H, W)``, the maps contiguous except ``sobels``."""
    planes, height, width = images.shape
    rows = strip_rows(planes, height, width)
    launch(
        attributes_adjoint_kernel,
        strip_programs(planes, height, width, rows),
        images.device,
        images,
        shifts,
        variances,
        products,
        sobels,
        pointwise,
        gradient,
        height,
        width,
        windows.map_height,
        windows.map_width,
        rows,
        *images.stride(),
        *((0, 0, 0) if sobels is None else sobels.stride()),
        PADDED=windows.padded,
        **windows.constants,
    )


def sobel_gradient_backward(upstream: Tensor, images: Tensor) -> Tensor:
    gradient = images.new_empty(images.shape)
    every_pixel = Windows((1.0,), (1.0,), False, *images.shape[1:])
    attributes_gradient(images, every_pixel, gradient, sobels=upstream)
    return gradient


def _configuration(
    name: str, maps: tuple[str, ...], border: str = "valid", dtype: str = "fp32", **constants: Any
) -> Configuration:
    given = {"images": f"*{dtype}:16", "gradient": f"*{dtype}:16"}
    given |= {x: "*fp32:16" for x in maps}
    if "variances" in maps:
        given |= {"shifts": "*fp32:16"}
    absent = ("shifts", "variances", "products", "sobels", "pointwise")
    size = BYTES[dtype]
    return configuration(
        f"{name}, {border} border, {dtype}",
        attributes_adjoint_kernel,
        given,
        {
            **WINDOW,
            **constants,
            "PADDED": border == "zero",
            "image_column": 1,
            "sobel_column": 1,
            **{x: None for x in absent if x not in given},
        },
        2 * size + 4 * len(maps),
        resident=ARITHMETIC,
    )


_VARIANCE = ("variances", "products")
CONFIGURATIONS = [
    _configuration("local_variance backward", _VARIANCE),
    _configuration("local_variance backward", _VARIANCE, "zero"),
    _configuration("sobel_gradient backward", ("sobels",), TAPS_Y=(1.0,), TAPS_X=(1.0,)),
    _configuration("gamma_weights backward, variance × gradient", (*_VARIANCE, "sobels")),
    _configuration("gamma_weights backward, all", (*_VARIANCE, "sobels", "pointwise")),
    _configuration(
        "gamma_weights backward, all", (*_VARIANCE, "sobels", "pointwise"), dtype="bf16"
    ),
]
