"""Launch the kernels of :mod:`.quality` for the scores of MEF-SSIM and their gradients.

A score is the sum of the programs' sums, in a fixed order. The host never waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.launching import launch
from ..common.maps import margins, new_maps
from ..common.windows import Taps, Windows, single, strip_programs, strip_rows, windows_of
from .quality import quality_backward_kernel, quality_kernel

if TYPE_CHECKING:
    from torch import Tensor


def _score(
    windows: Windows,
    fused: Tensor,
    exposures: Tensor,
    means: Tensor,
    gains: Tensor | None,
    chosen: Tensor | None,
    variance: Tensor,
    luminance: Tensor | None,
    c1: float,
    c2: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return cs and the luminance factor, ``(B,)``, and their gradients, empty if not wanted."""
    batch, count, height, width = exposures.shape
    size = windows.map_height, windows.map_width
    window_weight = 1 / (size[0] * size[1])
    rows = strip_rows(batch, *size)
    programs = strip_programs(1, *size, rows)
    none = fused.new_empty((0,))
    sums, luminance_sums = (single(fused, batch, programs) for _ in range(2))
    maps = shifts = None
    if with_gradient:
        maps = new_maps(fused, batch, 2 + count + (luminance is not None), windows)
        shifts = single(fused, batch)
    constants = {"K": count, "PADDED": windows.padded, **windows.constants}
    constants |= margins(windows)._asdict()
    launch(
        quality_kernel,
        batch * programs,
        fused.device,
        fused,
        exposures,
        means,
        gains,
        chosen,
        variance,
        luminance,
        sums,
        None if luminance is None else luminance_sums,
        maps,
        shifts,
        height,
        width,
        *size,
        rows,
        c1,
        c2,
        window_weight,
        **constants,
    )
    score = (sums.sum(dim=-1) * window_weight).to(fused.dtype)
    factor = (
        none if luminance is None else (luminance_sums.sum(dim=-1) * window_weight).to(fused.dtype)
    )
    if not with_gradient:
        # torch.compile assumes that the results of an operation do not share memory.
        return score, factor, none, fused.new_empty((0,))
    gradient = fused.new_empty(fused.shape)
    luminance_gradient = none if luminance is None else fused.new_empty(fused.shape)
    rows = strip_rows(batch, height, width)
    launch(
        quality_backward_kernel,
        strip_programs(batch, height, width, rows),
        fused.device,
        fused,
        exposures,
        maps,
        shifts,
        gradient,
        None if luminance is None else luminance_gradient,
        height,
        width,
        *size,
        rows,
        **constants,
    )
    return score, factor, gradient, luminance_gradient


def ma2015_quality(
    exposures: Tensor,
    means: Tensor,
    gains: Tensor,
    variance: Tensor,
    fused: Tensor,
    with_gradient: bool,
    taps: Taps,
    c: float,
) -> tuple[Tensor, Tensor]:
    """Return the score ``(B,)`` of one scale and its gradient, empty if not wanted."""
    exposures, means, gains, variance, fused = (
        x.contiguous() for x in (exposures, means, gains, variance, fused)
    )
    windows = windows_of(fused, taps, False)
    score, _, gradient, _ = _score(
        windows,
        fused,
        exposures,
        means,
        gains,
        None,
        variance,
        None,
        0.0,
        c,
        with_gradient,
    )
    return score, gradient


def mefnet_factors(
    exposures: Tensor,
    reference: Tensor,
    mean: Tensor,
    variance: Tensor,
    luminance: Tensor,
    fused: Tensor,
    with_gradient: bool,
    taps: Taps,
    c1: float,
    c2: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return luminance factor and cs ``(B,)``, and their gradients, empty if not wanted."""
    exposures, reference, mean, variance, luminance, fused = (
        x.contiguous() for x in (exposures, reference, mean, variance, luminance, fused)
    )
    windows = windows_of(fused, taps, True)
    structure, factor, grad_structure, grad_luminance = _score(
        windows,
        fused,
        exposures,
        mean,
        None,
        reference,
        variance,
        luminance,
        c1,
        c2,
        with_gradient,
    )
    return factor, structure, grad_luminance, grad_structure
