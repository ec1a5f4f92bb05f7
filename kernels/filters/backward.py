r"""The gradient of the attributes of γ w.r.t. an image, in one pass.

.. math::
    \partial L / \partial I = 2 (I - c) (w * d) - 2\, w * (d \mu)
        + \mathrm{Sobel}^T(a, b) + e

d and dμ are the derivative maps of the local variance (:mod:`.variance`), a and b those of the
Sobel magnitude (:mod:`.sobel`), and e is that of well-exposedness, which depends on one pixel only.
Each part may be absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton.language as tl

from ..common.configurations import MARGINS, WINDOW, configuration, with_window
from ..common.launching import ARITHMETIC, BYTES, Layout, compiled_for, launch
from ..common.maps import filter_maps, filter_pair, load_group, map_offset, margins
from ..common.tiles import stored
from ..common.windows import (
    Windows,
    columns_each,
    locate_strip,
    push,
    row_at,
    strip_programs,
    strip_rows,
    zero_rows,
)
from .sobel import edge_weights, push_sobel_backward

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration

_MAPS = ("variances", "sobels")


@compiled_for(Layout(ones=("image_column",), multiples=_MAPS), Layout(multiples=_MAPS))
def attributes_backward_kernel(
    images,
    shifts,  # c of every plane, or None if variances is None
    variances,  # maps (d, dμ), or None
    sobels,  # maps (a, b), or None
    pointwise,  # map e, or None
    gradient,
    height,
    width,
    map_height,
    map_width,
    rows,
    image_plane,
    image_row,
    image_column,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    PADDED: tl.constexpr,
    MARGIN_Y: tl.constexpr,
    MARGIN_X: tl.constexpr,
    COLUMNS: tl.constexpr,
    EACH: tl.constexpr,
):
    """Compute the gradient of a strip of pixels from the maps that are not ``None``."""
    size: tl.constexpr = len(TAPS_Y)
    # The centre of a window. Without padding the map begins that much further inside the image.
    center_y: tl.constexpr = len(TAPS_Y) // 2
    center_x: tl.constexpr = len(TAPS_X) // 2
    top: tl.constexpr = 0 if PADDED else center_y
    left: tl.constexpr = 0 if PADDED else center_x
    # The number of rows of the march before the first pixel.
    before: tl.constexpr = max(0 if variances is None else size - 1, 0 if sobels is None else 2)
    # A 3×3 neighbourhood reaches beyond the image only if a window has a single row or column.
    at_edges: tl.constexpr = len(TAPS_Y) == 1 or len(TAPS_X) == 1
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS, EACH)
    images += plane * image_plane
    gradient += plane * height * width + column
    # Lanes beyond the image repeat its last column and are not stored.
    x = tl.minimum(column, width - 1) - left
    start = first - before
    if variances is not None:
        shift = tl.load(shifts + plane)
        y = start + (center_y - top)
        first_tap = map_offset(plane, y, x - center_x, map_height, map_width, MARGIN_Y, MARGIN_X)
        ring = zero_rows(2 * EACH * size, COLUMNS)
    if sobels is not None:
        open_rows = zero_rows(2 * EACH, COLUMNS)
        # The march may begin more than one row above the map; all rows there are zero.
        y = tl.maximum(start + 1 - top, -1)
        at_sobel = map_offset(plane, y, x, map_height, map_width, MARGIN_Y, MARGIN_X)
    # Pointers step from row to row, so that no product is formed in the loop.
    at = row_at(images, start, column, image_row, image_column)
    to = gradient + tl.cast(start, tl.int64) * width
    if pointwise is not None:
        at_pointwise = map_offset(plane, start - top, x, map_height, map_width, MARGIN_Y, MARGIN_X)
    image_step = tl.cast(image_row, tl.int64)
    for row in range(start, end):
        if variances is not None:
            if EACH == 1:
                filtered = filter_maps(variances, first_tap, 0, 2, TAPS_X)
            else:
                filtered = filter_pair(variances, first_tap, column + 1 < width, 2, TAPS_X)
            first_tap += map_width + 2 * MARGIN_X
            ring = push(ring, filtered, TAPS_Y)
        if sobels is not None:
            beside = ()
            for c in tl.static_range(EACH + 2):
                group = sobels + 2 * (at_sobel + (c - 1))
                # Only the first of EACH columns is sure to exist.
                present = column + 1 < width if c > 2 else None
                beside = beside + (load_group(group, 2, present),)
            through_sobel = ()
            pushed = ()
            for c in tl.static_range(EACH):
                own_weight, own_sum = edge_weights(column + c, width) if at_edges else (0.0, 2.0)
                h_x = beside[c][0] - beside[c + 2][0]
                h_y = beside[c][1] + own_sum * beside[c + 1][1] + beside[c + 2][1]
                if at_edges:
                    # A pixel receives a gradient from g_x in its own column only at an edge.
                    h_x += tl.where(own_weight == 0, 0.0, own_weight * beside[c + 1][0])
                done, opened = push_sobel_backward(
                    (open_rows[2 * c], open_rows[2 * c + 1]), h_x, h_y, row + 1, height, at_edges
                )
                through_sobel = through_sobel + (done,)
                pushed = pushed + opened
            open_rows = pushed
        if row >= first:
            for c in tl.static_range(EACH):
                inside = column + c < width
                total = tl.zeros((COLUMNS,), tl.float32)
                if variances is not None:
                    pixel = at + c * tl.cast(image_column, tl.int64)
                    value = tl.load(pixel, mask=inside, other=0).to(tl.float32) - shift
                    total += 2 * (value * ring[2 * c * size] - ring[(2 * c + 1) * size])
                if sobels is not None:
                    total += through_sobel[c]
                if pointwise is not None:
                    total += tl.load(pointwise + at_pointwise + c, mask=inside, other=0)
                tl.store(to + c, stored(total, gradient.dtype.element_ty), mask=inside)
        if sobels is not None:
            # A loop of the interpreter counts in plain numbers.
            next_y = tl.cast(row, tl.int32) + 2 - top
            at_sobel += tl.where(next_y < 0, 0, map_width + 2 * MARGIN_X)
        at += image_step
        to += width
        if pointwise is not None:
            at_pointwise += map_width + 2 * MARGIN_X


def attributes_backward(
    images: Tensor,
    windows: Windows,
    gradient: Tensor,
    shifts: Tensor | None = None,
    variances: Tensor | None = None,
    sobels: Tensor | None = None,
    pointwise: Tensor | None = None,
) -> None:
    """Fill ``gradient`` for images ``(N, H, W)``. Maps have the layout of :mod:`..common.maps`."""
    planes, height, width = images.shape
    each = columns_each(windows.taps_y, maps=2)
    rows = strip_rows(planes, height, width, each)
    launch(
        attributes_backward_kernel,
        strip_programs(planes, height, width, rows, each),
        images.device,
        images,
        shifts,
        variances,
        sobels,
        pointwise,
        gradient,
        height,
        width,
        windows.map_height,
        windows.map_width,
        rows,
        *images.stride(),
        PADDED=windows.padded,
        EACH=each,
        **margins(windows)._asdict(),
        **windows.constants,
    )


def _configuration(
    name: str,
    maps: tuple[str, ...],
    border: str = "valid",
    dtype: str = "fp32",
    layout: int = 0,
) -> Configuration:
    """Return a variant with the given maps."""
    given = {"images": f"*{dtype}", "gradient": f"*{dtype}"}
    given |= dict.fromkeys(maps, "*fp32")
    if "variances" in maps:
        given |= {"shifts": "*fp32"}
    absent = ("shifts", "variances", "sobels", "pointwise")
    size, numbers = BYTES[dtype], sum(1 if x == "pointwise" else 2 for x in maps)
    return configuration(
        f"{name}, {border} border, {dtype}" + (", any strides" if layout else ""),
        attributes_backward_kernel,
        given,
        {
            **WINDOW,
            **MARGINS[border],
            "PADDED": border == "zero",
            "EACH": 2,
            **{x: None for x in absent if x not in given},
        },
        2 * size + 4 * numbers,
        resident=ARITHMETIC,
        layout=layout,
    )


_ALL = ("variances", "sobels", "pointwise")
CONFIGURATIONS = [
    _configuration("local_variance backward", _ALL[:1]),
    _configuration("local_variance backward", _ALL[:1], "zero"),
    _configuration("gamma_weights backward, variance × gradient", _ALL[:2]),
    _configuration("gamma_weights backward, all", _ALL),
    _configuration("gamma_weights backward, all", _ALL, dtype="bf16"),
    _configuration("gamma_weights backward, all", _ALL, layout=1),
    *(
        with_window(_configuration("gamma_weights backward, all", _ALL), window, each)
        for window, each in ((27, 2), (55, 1))
    ),
]
