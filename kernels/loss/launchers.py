r"""weighted_ssim_loss and fusion_loss: value and gradient w.r.t. F or the logits in two launches.

.. math::
    L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

The forward kernel (:mod:`.forward`) writes one partial sum for each program and, if a gradient is
wanted, the 2 + K derivative maps. The backward kernel (:mod:`.backward`) filters these and adds up
the partial sums. The host never waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..common.launching import cdiv, launch
from ..common.maps import margins, new_maps
from ..common.windows import WARPS, Taps, single, strip_programs, strip_rows, windows_of
from .backward import backward_kernel, sum_kernel
from .forward import forward_kernel
from .pyramid import pyramid_kernel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Registers of a thread in the forward kernel for two exposures and no luminance, by architecture
# where the compiler would take more: with 128 four programs fit a multiprocessor, with 168 three.
# Nothing spills up to windows of 11 rows. Not timed on a GPU.
REGISTERS = {80: 128, 90: 128, 100: 168}
REGISTERS_FROM_LOGITS = {100: 168}
MOST_ROWS = 11
# Side of a program's square in the pyramid, and the levels it has.
SIDE = 32
HALVINGS = 5


@cache
def _architecture(device: torch.device) -> int:
    """Return the compute capability as 80, 90, 100 ..., and 0 for the interpreter."""
    if device.type != "cuda":
        return 0
    import torch

    return 10 * torch.cuda.get_device_capability(device)[0]


class _Options:
    """The options of the loss as scalars and constants of the kernels."""

    def __init__(
        self,
        gamma: str,
        luminance: bool,
        c1: float,
        c2: float,
        floor: float,
        eps: float,
    ) -> None:
        self.scalars = (c1, c2, floor, eps)
        self.constants = {
            "VARIANCE": "variance" in gamma,
            "GRADIENT": "gradient" in gamma,
            "WELL_EXPOSEDNESS": "well_exposedness" in gamma,
            "LUMINANCE": luminance,
        }


def _source_strides(source: Tensor) -> tuple[int, ...]:
    """Return the strides of batch, layers, rows and columns; that of layers is 0 for F."""
    strides = source.stride()
    return strides if source.ndim == 4 else (strides[0], 0, *strides[1:])


class _Level:
    """The launches for one level: forward and, if a gradient is wanted, backward."""

    def __init__(self, source: Tensor, exposures: Tensor, taps: Taps, options: _Options) -> None:
        self.source, self.exposures, self.options = source, exposures, options
        self.batch, self.count, self.height, self.width = exposures.shape
        windows = windows_of(exposures, taps, False)
        self.shape, self.windows = windows, (windows.map_height, windows.map_width)
        self.constants = {
            **windows.constants,
            **margins(windows)._asdict(),
            "K": self.count,
            "FROM_LOGITS": source.ndim == 4,
        }
        self.rows = strip_rows(self.batch, *self.windows)
        self.programs = strip_programs(self.batch, *self.windows, self.rows)

    def max_registers(self) -> int | None:
        """Return the limit on registers of the forward kernel, or ``None`` for no limit."""
        luminance = self.options.constants["LUMINANCE"]
        if self.count != 2 or luminance or len(self.shape.taps_y) > MOST_ROWS:
            return None
        limits = REGISTERS if self.source.ndim == 3 else REGISTERS_FROM_LOGITS
        return limits.get(_architecture(self.source.device))

    def forward(
        self,
        weights: Tensor | None,
        norm: Tensor | None,
        scale: float,
        partials: Tensor | None,
        values: Tensor | None,
        with_maps: bool,
    ) -> None:
        """Fill the outputs that are not ``None``; ``weights`` are those of the windows."""
        self.maps = self.shifts = None
        if with_maps:
            self.maps = new_maps(self.source, self.batch, 2 + self.count, self.shape)
            self.shifts = single(self.source, self.batch, 1 + self.count)
        launch(
            forward_kernel,
            self.programs,
            self.source.device,
            self.source,
            self.exposures,
            weights,
            norm,
            partials,
            values,
            self.maps,
            self.shifts,
            self.height,
            self.width,
            self.rows,
            *_source_strides(self.source),
            *self.exposures.stride(),
            *((0, 0, 0) if weights is None else weights.stride()),
            scale,
            *self.options.scalars,
            maxnreg=self.max_registers(),
            **self.options.constants,
            **self.constants,
        )

    def forward_mean(
        self, mask: Tensor | None, scale: float, partials: Tensor, with_maps: bool
    ) -> None:
        """Fill the partial sums of ``scale`` times the mean of 1 - q, weighted by a mask."""
        # The weighted mean is not computed for a level of weight 0, where it may be 0 / 0.
        if mask is None or scale == 0:
            windows = self.batch * self.windows[0] * self.windows[1]
            self.forward(None, None, scale / windows, partials, None, with_maps)
            return
        import torch

        weights = _crop(mask, self.windows)
        norm = weights.sum(dtype=torch.float32)
        self.forward(weights, norm, scale, partials, None, with_maps)

    def backward(
        self,
        coarse: Tensor | None,
        gradient: Tensor,
        partials: Tensor | None = None,
        value: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        """Fill the gradient, given that of the next level, and add up the value if it is wanted."""
        rows = strip_rows(self.batch, self.height, self.width)
        launch(
            backward_kernel,
            strip_programs(self.batch, self.height, self.width, rows),
            self.source.device,
            self.source,
            self.exposures,
            self.maps,
            self.shifts,
            coarse,
            gradient,
            partials,
            value,
            self.height,
            self.width,
            rows,
            0 if partials is None else partials.numel(),
            *_source_strides(self.source),
            *self.exposures.stride(),
            scale,
            **self.constants,
        )
        return gradient


def _dense(source: Tensor) -> Tensor:
    """Allocate a contiguous tensor of this shape."""
    return source.new_empty(source.shape)


def _crop(mask: Tensor, windows: tuple[int, int]) -> Tensor:
    """Return the mask at the centres of the windows."""
    top, left = ((n - w) // 2 for n, w in zip(mask.shape[1:], windows, strict=True))
    return mask[:, top : top + windows[0], left : left + windows[1]]


def _pyramid(
    source: Tensor, exposures: Tensor, mask: Tensor | None, count: int
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Return F (or the logits), the exposures and the mask, and ``count`` levels of 2x2 means."""
    import torch

    out = [(source, exposures, mask)]
    batch, layers = exposures.shape[:2]
    planes = 1 + layers + (mask is not None)
    while len(out) <= count:
        source, exposures, mask = out[-1]
        height, width = exposures.shape[2:]
        sizes = [(cdiv(height, 2 << s), cdiv(width, 2 << s)) for s in range(HALVINGS)]
        sizes = sizes[: count + 1 - len(out)]
        areas = [h * w for h, w in sizes]
        levels = source.new_empty((batch * planes * sum(areas),), dtype=torch.float32)
        launch(
            pyramid_kernel,
            batch * cdiv(height, SIDE) * cdiv(width, SIDE),
            source.device,
            source,
            exposures,
            mask,
            levels,
            batch,
            height,
            width,
            *_source_strides(source),
            *exposures.stride(),
            *((0, 0, 0) if mask is None else mask.stride()),
            K=layers,
            FROM_LOGITS=source.ndim == 4,
            LEVELS=len(sizes),
            SIDE=SIDE,
            num_warps=WARPS,
        )
        parts = levels.split([batch * planes * area for area in areas])
        for part, size in zip(parts, sizes, strict=True):
            level = part.view(batch, planes, *size)
            masks = None if mask is None else level[:, -1]
            out.append((level[:, 0], level[:, 1 : 1 + layers], masks))
    return out


def weighted_ssim_loss(
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    taps: Sequence[Taps],
    scales: Sequence[float],
    gradient_scale: float,
    with_gradient: bool,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    """Return the value in float32 and the gradient times ``gradient_scale``, empty if not wanted.

    ``taps`` and ``scales`` hold the taps and weight of every level, finest first.
    """
    parsed = _Options(*options)
    last = max(s for s, scale in enumerate(scales) if scale)
    pyramid = _pyramid(source, exposures, mask, last)
    levels = [_Level(f, i, t, parsed) for (f, i, _), t in zip(pyramid, taps, strict=False)]
    value = single(source)
    partials = single(source, sum(level.programs for level in levels))
    parts = partials.split([level.programs for level in levels])
    for level, (_, _, of_level), part, scale in zip(levels, pyramid, parts, scales, strict=False):
        level.forward_mean(of_level, scale / sum(scales), part, with_gradient)
    if not with_gradient:
        launch(sum_kernel, 1, source.device, partials, value, partials.numel())
        return value, source.new_empty((0,))
    gradient = None
    for level in reversed(levels[1:]):
        gradient = level.backward(gradient, single(source, *level.source.shape))
    return value, levels[0].backward(gradient, _dense(source), partials, value, gradient_scale)


def weighted_ssim_map(fused: Tensor, exposures: Tensor, taps: Taps, *options: Any) -> Tensor:
    """Return 1 - q at every window."""
    level = _Level(fused, exposures, taps, _Options(*options))
    values = fused.new_empty((level.batch, *level.windows))
    level.forward(None, None, 1.0, None, values, False)
    return values


def weighted_ssim_map_backward(
    grad_output: Tensor, fused: Tensor, exposures: Tensor, taps: Taps, *options: Any
) -> Tensor:
    """Return the gradient of the map w.r.t. F."""
    level = _Level(fused, exposures, taps, _Options(*options))
    level.forward(grad_output, None, 1.0, None, None, True)
    return level.backward(None, _dense(fused))
