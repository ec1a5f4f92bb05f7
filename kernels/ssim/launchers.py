"""Launch the kernels of ssim: the map and the mean, with their gradients.

The mean is computed together with its gradients: two launches, or one without gradients, and the
sum of the programs' sums. The host never waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.launching import launch
from ..common.maps import margins, new_maps
from ..common.reflect_pad import reflect_pad, reflect_pad_backward
from ..common.windows import (
    Taps,
    Windows,
    columns_each,
    single,
    strip_programs,
    strip_rows,
    windows_of,
)
from .backward import ssim_backward_kernel
from .forward import ssim_kernel

if TYPE_CHECKING:
    from torch import Tensor

MAPS = 4  # of a ring


def _first_pass(
    a: Tensor,
    b: Tensor,
    windows: Windows,
    c1: float,
    c2: float,
    luminance: bool,
    grad_output: Tensor | None = None,
    scale: float = 0.0,
    values: Tensor | None = None,
    for_a: bool = False,
    for_b: bool = False,
    with_sum: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Fill ``values``; return the programs' sums, the derivative maps and the planes' constants."""
    planes, height, width = a.shape
    size = windows.map_height, windows.map_width
    each = columns_each(windows.taps_y, MAPS)
    rows = strip_rows(planes, *size, each)
    programs = strip_programs(planes, *size, rows, each)
    with_maps = for_a or for_b
    maps = new_maps(a, planes, 2 + for_a + for_b, windows) if with_maps else None
    shifts = single(a, 2, planes) if with_maps else None
    sums = single(a, programs) if with_sum else None
    launch(
        ssim_kernel,
        programs,
        a.device,
        a,
        b,
        grad_output,
        values,
        sums,
        maps,
        shifts,
        height,
        width,
        *size,
        planes,
        rows,
        c1,
        c2,
        scale,
        *a.stride(),
        *b.stride(),
        *((0, 0, 0) if grad_output is None else grad_output.stride()),
        LUMINANCE=luminance,
        FOR_A=for_a,
        FOR_B=for_b,
        EACH=each,
        PADDED=windows.padded,
        **margins(windows)._asdict(),
        **windows.constants,
    )
    return sums, maps, shifts


def _second_pass(
    a: Tensor,
    b: Tensor,
    windows: Windows,
    maps: Tensor | None,
    shifts: Tensor | None,
    gradient_a: Tensor | None,
    gradient_b: Tensor | None,
) -> None:
    """Filter the derivative maps and fill the gradients that are not ``None``."""
    planes, height, width = a.shape
    rows = strip_rows(planes, height, width)
    launch(
        ssim_backward_kernel,
        strip_programs(planes, height, width, rows),
        a.device,
        a,
        b,
        shifts,
        maps,
        gradient_a,
        gradient_b,
        height,
        width,
        windows.map_height,
        windows.map_width,
        planes,
        rows,
        *a.stride(),
        *b.stride(),
        PADDED=windows.padded,
        **margins(windows)._asdict(),
        **windows.constants,
    )


def _prepared(a: Tensor, b: Tensor, taps: Taps, border: str) -> tuple[Tensor, Tensor, Windows]:
    """Return the images, padded if the border is ``"reflect"``, and their windows."""
    windows = windows_of(a, taps, border == "zero")
    if border == "reflect":
        return reflect_pad(a, windows)[0], *reflect_pad(b, windows)
    return a, b, windows


def _gradients(
    a: Tensor,
    b: Tensor,
    windows: Windows,
    maps: Tensor | None,
    shifts: Tensor | None,
    border: str,
    for_a: bool,
    for_b: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients w.r.t. the images before :func:`_prepared`, empty if not wanted."""
    reflects = border == "reflect"
    grads = tuple(
        (single(x, *x.shape) if reflects else x.new_empty(x.shape)) if wanted else None
        for x, wanted in ((a, for_a), (b, for_b))
    )
    if for_a or for_b:
        _second_pass(a, b, windows, maps, shifts, *grads)
    grad_a, grad_b = (
        a.new_empty((0,))
        if x is None
        else reflect_pad_backward(x, windows, a.dtype)
        if reflects
        else x
        for x in grads
    )
    return grad_a, grad_b


def ssim_map(
    a: Tensor,
    b: Tensor,
    taps: Taps,
    c1: float,
    c2: float,
    luminance: bool,
    border: str,
) -> Tensor:
    """Return the map ``(N, H', W')`` of images ``(N, H, W)``."""
    a, b, windows = _prepared(a, b, taps, border)
    values = a.new_empty((a.shape[0], windows.map_height, windows.map_width))
    _first_pass(a, b, windows, c1, c2, luminance, values=values)
    return values


def ssim_map_backward(
    grad_output: Tensor,
    a: Tensor,
    b: Tensor,
    taps: Taps,
    c1: float,
    c2: float,
    luminance: bool,
    border: str,
    for_a: bool,
    for_b: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients w.r.t. a and b, empty if not wanted."""
    a, b, windows = _prepared(a, b, taps, border)
    _, maps, shifts = _first_pass(
        a, b, windows, c1, c2, luminance, grad_output, for_a=for_a, for_b=for_b
    )
    return _gradients(a, b, windows, maps, shifts, border, for_a, for_b)


def ssim_mean(
    a: Tensor,
    b: Tensor,
    taps: Taps,
    c1: float,
    c2: float,
    luminance: bool,
    border: str,
    for_a: bool,
    for_b: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of the map and its gradients w.r.t. a and b, empty if not wanted."""
    a, b, windows = _prepared(a, b, taps, border)
    window_weight = 1 / (a.shape[0] * windows.map_height * windows.map_width)
    sums, maps, shifts = _first_pass(
        a, b, windows, c1, c2, luminance, None, window_weight, None, for_a, for_b, with_sum=True
    )
    value = sums.sum() * window_weight  # type: ignore[union-attr]
    return value, *_gradients(a, b, windows, maps, shifts, border, for_a, for_b)
