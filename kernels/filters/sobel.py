r"""sobel_gradient: :math:`S = \sqrt{g_x^2 + g_y^2}`, :math:`g_x = K_x * I`, with repeated edges.

Forward and backward kernels march down strips of rows (:mod:`..common.windows`). With the
differences D = I(x + 1) - I(x - 1) along a row and T = I(y + 1) - I(y - 1) along a column

.. math::
    g_x = D(y - 1) + 2 D(y) + D(y + 1), \quad g_y = T(x - 1) + 2 T(x) + T(x + 1)

The gradient w.r.t. the image is computed row by row as well. With
:math:`u = \partial L / \partial S / S`, :math:`a = u g_x` and :math:`b = u g_y`, a row of windows
contributes

.. math::
    h_x(x) = a(x - 1) - a(x + 1), \quad h_y(x) = b(x - 1) + 2 b(x) + b(x + 1), \\
    \partial L / \partial I(y) = (h_x + h_y)(y - 1) + 2 h_x(y) + (h_x - h_y)(y + 1)

so each thread computes S in its column and in both adjacent columns. The gradient w.r.t. a repeated
edge is added to the pixel that it repeats. Where S = 0 the gradient is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from ..common.configurations import configuration
from ..common.launching import BYTES, SINGLE_VALUES, Kernel, Layout, compiled_for, launch
from ..common.tiles import stored
from ..common.windows import (
    COLUMNS,
    WARPS,
    locate_strip,
    row_at,
    strip_programs,
    strip_rows,
    zero_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..common.launching import Configuration


@triton.jit
def load_beside(at, column, width, column_stride, REACH: tl.constexpr):
    """Load the 2 REACH + 1 pixels around each column of a row, with repeated edges.

    ``at`` points to the pixels in the middle.
    """
    step = tl.cast(column_stride, tl.int64)
    values = (tl.load(at).to(tl.float32),)
    for i in tl.static_range(REACH):
        there = column > i
        left = tl.load(at - (i + 1) * step, mask=there, other=0).to(tl.float32)
        left = tl.where(there, left, values[0])
        there = column < width - (i + 1)
        right = tl.load(at + (i + 1) * step, mask=there, other=0).to(tl.float32)
        values = (left,) + values + (tl.where(there, right, values[2 * i]),)
    return values


@triton.jit
def sobel_ring(COUNT: tl.constexpr, COLUMNS: tl.constexpr):
    """Return an empty ring for :func:`push_sobel`."""
    return zero_rows(4 * COUNT + 4, COLUMNS)


@triton.jit
def push_sobel(ring, values, COUNT: tl.constexpr):
    """Push a row into the windows of COUNT neighbouring columns; ``values`` are COUNT + 2 pixels.

    Return (g_x, g_y) of every column for the row before this one, and the new ring: the pixels of
    the last two rows, then the partial sums of g_x of the next two rows.
    """
    reach: tl.constexpr = COUNT + 2
    steps = ()
    for j in tl.static_range(reach):
        # Pixels are subtracted before they are summed, which is exact in flat areas.
        steps = steps + (values[j] - ring[j],)
    done = ()
    pushed = ring[reach : 2 * reach] + values
    for j in tl.static_range(COUNT):
        across = values[j + 2] - values[j]
        down = steps[j] + 2 * steps[j + 1] + steps[j + 2]
        done = done + (ring[2 * reach + 2 * j] + across, down)
        pushed = pushed + (ring[2 * reach + 2 * j + 1] + 2 * across, across)
    return done, pushed


@triton.jit
def differences_at(at, y, x, height, width, row_stride, column_stride, AT_EDGES: tl.constexpr):
    """Return (g_x, g_y) at the pixels (y, x), to which ``at`` points, from their 3×3 neighbours.

    Without AT_EDGES every pixel must have neighbours on all sides, like the centre of a window of
    three pixels or more.
    """
    ring = sobel_ring(1, x.shape[0])
    step = tl.cast(column_stride, tl.int64)
    for i in tl.static_range(3):
        if AT_EDGES:
            row = tl.minimum(tl.maximum(y + i - 1, 0), height - 1) - y
            line = at + row * tl.cast(row_stride, tl.int64)
            values = load_beside(line, x, width, column_stride, 1)
        else:
            line = at + (i - 1) * tl.cast(row_stride, tl.int64)
            values = (
                tl.load(line - step).to(tl.float32),
                tl.load(line).to(tl.float32),
                tl.load(line + step).to(tl.float32),
            )
        done, ring = push_sobel(ring, values, 1)
    return done


@triton.jit
def scaled_differences(grad_output, across, down, counts):
    """Return (a, b) = ``grad_output`` / S times (g_x, g_y), and 0 where ``counts`` is false."""
    square = across * across + down * down
    ratio = grad_output * tl.rsqrt(square)
    counts = counts & (square != 0)
    # A factor of 0 would not do: its product with a difference that is not finite is NaN.
    return tl.where(counts, ratio * across, 0.0), tl.where(counts, ratio * down, 0.0)


@triton.jit
def edge_weights(column, width):
    """Return the weights of a(x) in h_x(x) and of b(x) in h_y(x), with the repeated edges."""
    first = tl.where(column == 0, 1.0, 0.0)
    last = tl.where(column == width - 1, 1.0, 0.0)
    return last - first, 2.0 + first + last


@triton.jit
def push_sobel_backward(open_rows, across, down, row, height, AT_EDGES: tl.constexpr):
    """Add (h_x, h_y) of a row of windows to the gradients of three rows.

    Return dL/dI of the row before this one, and the partial sums of the next two rows.
    """
    before = across - down
    after = across + down
    own = open_rows[1] + 2 * across
    if AT_EDGES:
        own += tl.where(row == 0, before, 0.0) + tl.where(row == height - 1, after, 0.0)
    return open_rows[0] + before, (own, after)


@compiled_for(Layout(ones=("image_column",)), Layout())
def sobel_kernel(
    images,
    out,
    height,
    width,
    rows,
    image_plane,
    image_row,
    image_column,
    COLUMNS: tl.constexpr,
):
    """Compute S of a strip of pixels."""
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    images += plane * image_plane
    out += plane * height * width + column
    from_column = tl.minimum(column, width - 1)
    ring = sobel_ring(1, COLUMNS)
    at = row_at(images, tl.maximum(first - 1, 0), from_column, image_row, image_column)
    to = out + (tl.cast(first, tl.int64) - 2) * width
    step = tl.cast(image_row, tl.int64)
    for row in range(first - 1, end + 1):
        done, ring = push_sobel(ring, load_beside(at, from_column, width, image_column, 1), 1)
        if row > first:
            value = tl.sqrt(done[0] * done[0] + done[1] * done[1])
            tl.store(to, stored(value, out.dtype.element_ty), mask=column < width)
        # The first and the last row stand in for those beyond.
        y = tl.cast(row, tl.int32)  # a loop of the interpreter counts in plain numbers
        at += tl.where((y >= 0) & (y < height - 1), step, 0)
        to += width


@compiled_for(
    Layout(ones=("image_column", "grad_column")),
    Layout(ones=("image_column",)),  # the gradient of a mean repeats one value
    Layout(),
)
def sobel_backward_kernel(
    grad_output,
    images,
    grad_images,
    height,
    width,
    rows,
    grad_plane,
    grad_row,
    grad_column,
    image_plane,
    image_row,
    image_column,
    COLUMNS: tl.constexpr,
):
    """Compute the gradient w.r.t. a strip of pixels."""
    plane, first, end, column = locate_strip(tl.program_id(0), height, width, rows, COLUMNS)
    images += plane * image_plane
    grad_output += plane * grad_plane
    grad_images += plane * height * width + column
    from_column = tl.minimum(column, width - 1)
    own_weight, own_sum = edge_weights(column, width)
    # Whether there are windows left of, at and right of each pixel.
    exists = (column > 0, column < width, column < width - 1)
    step = tl.cast(grad_column, tl.int64)
    pixels = sobel_ring(3, COLUMNS)
    open_rows = zero_rows(2, COLUMNS)
    at = row_at(images, tl.maximum(first - 2, 0), from_column, image_row, image_column)
    at_grad = row_at(grad_output, first - 3, column, grad_row, grad_column)
    to = grad_images + (tl.cast(first, tl.int64) - 4) * width
    image_step = tl.cast(image_row, tl.int64)
    grad_step = tl.cast(grad_row, tl.int64)
    for row in range(first - 2, end + 2):
        beside = load_beside(at, from_column, width, image_column, 2)
        differences, pixels = push_sobel(pixels, beside, 3)
        y = row - 1
        # This is a block because the interpreter cannot apply & to a scalar condition.
        of_columns = y + tl.zeros_like(column)
        row_exists = (of_columns >= 0) & (of_columns < height)
        across = ()
        down = ()
        for j in tl.static_range(3):
            counts = exists[j] & row_exists
            grad = tl.load(at_grad + (j - 1) * step, mask=counts, other=0).to(tl.float32)
            a, b = scaled_differences(grad, differences[2 * j], differences[2 * j + 1], counts)
            across = across + (a,)
            down = down + (b,)
        # A pixel receives a gradient from g_x in its own column only at an edge.
        own = tl.where(own_weight == 0, 0.0, own_weight * across[1])
        done, open_rows = push_sobel_backward(
            open_rows,
            across[0] - across[2] + own,
            down[0] + own_sum * down[1] + down[2],
            y,
            height,
            True,
        )
        if row >= first + 2:
            tl.store(to, stored(done, grad_images.dtype.element_ty), mask=column < width)
        y = tl.cast(row, tl.int32)
        at += tl.where((y >= 0) & (y < height - 1), image_step, 0)
        at_grad += grad_step
        to += width


def _launch(kernel: Kernel, *tensors: Tensor) -> None:
    """Launch a kernel on ``(N, H, W)`` tensors; it fills the last one, which is contiguous."""
    *inputs, out = tensors
    planes, height, width = out.shape
    rows = strip_rows(planes, height, width)
    launch(
        kernel,
        strip_programs(planes, height, width, rows),
        out.device,
        *tensors,
        height,
        width,
        rows,
        *(stride for x in inputs for stride in x.stride()),
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )


def sobel_gradient(images: Tensor) -> Tensor:
    """Return S of images ``(N, H, W)``."""
    out = images.new_empty(images.shape)
    _launch(sobel_kernel, images, out)
    return out


def sobel_gradient_backward(grad_output: Tensor, images: Tensor) -> Tensor:
    """Return the gradient w.r.t. the images."""
    grad_images = images.new_empty(images.shape)
    _launch(sobel_backward_kernel, grad_output, images, grad_images)
    return grad_images


def _configuration(kernel: Kernel, dtype: str, layout: int = 0) -> Configuration:
    """Return a variant of the forward or the backward kernel."""
    pointers = ("images", "out", "grad_output", "grad_images")
    given = {x: f"*{dtype}" for x in kernel.arg_names if x in pointers}
    name = "sobel_gradient" if kernel is sobel_kernel else "sobel_gradient backward"
    dense = ", ".join(kernel.layouts[layout].ones) or "no column"
    return configuration(
        f"{name}, {dtype}" + (f", stride 1 of {dense}" if layout else ""),
        kernel,
        given,
        {"COLUMNS": COLUMNS},
        len(given) * BYTES[dtype],
        resident=SINGLE_VALUES,
        layout=layout,
    )


_KERNELS = (sobel_kernel, sobel_backward_kernel)
CONFIGURATIONS = [
    *(_configuration(kernel, dtype) for kernel in _KERNELS for dtype in ("fp16", "bf16", "fp32")),
    *(_configuration(x, "fp32", i) for x in _KERNELS for i in range(1, len(x.layouts))),
]
