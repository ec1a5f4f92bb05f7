r"""weighted_ssim_loss and fusion_loss: a value and its gradient by F (or the logits) in two launches

.. math::
    L = 1 - \operatorname{mean}_p \sum_k \gamma_k(p)\,\mathrm{SSIM}(F, I_k)(p)

The forward kernel (:mod:`.loss_forward`) writes one partial sum a program and, where a gradient is
wanted, the 2 + K derivative maps; the backward kernel (:mod:`.loss_backward`) filters these and
adds up the partial sums. Without a gradient no map is written. Nothing waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ._launch import cdiv, launch
from .loss_backward import backward_kernel, sum_kernel
from .loss_forward import forward_kernel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COLUMNS = 128
WARPS = 4
# Rows of a program: as many as leave every multiprocessor this many programs. More rows mean fewer
# rows read and filtered twice (a window's size less one for each program).
ROWS = (128, 64, 32, 16)
PROGRAMS = 3


@lru_cache(maxsize=None)
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    import torch

    return torch.cuda.get_device_properties(device).multi_processor_count


def _rows(strips: int, height: int, device: torch.device) -> int:
    """Rows of a program where ``strips`` strips of ``height`` rows are to be done."""
    wanted = PROGRAMS * _multiprocessors(device)
    return next((r for r in ROWS if strips * cdiv(height, r) >= wanted), ROWS[-1])


class _Options:
    """The options of the op in the form that the kernels take."""

    def __init__(
        self,
        gamma: str,
        luminance: bool,
        window: int,
        sigma: float | None,
        k1: float,
        k2: float,
        floor: float,
        eps: float,
    ) -> None:
        self.window, self.sigma = window, sigma
        self.scalars = (k1**2, k2**2, floor, eps)
        self.constants = {
            "VARIANCE": "variance" in gamma,
            "GRADIENT": "gradient" in gamma,
            "WELL_EXPOSEDNESS": "well_exposedness" in gamma,
            "LUMINANCE": luminance,
        }

    def taps(self, height: int, width: int) -> dict[str, tuple[float, ...]]:
        from ..ops._arrays import axis_taps

        return {
            "TAPS_Y": axis_taps(self.window, self.sigma, height),
            "TAPS_X": axis_taps(self.window, self.sigma, width),
        }


def _source_strides(source: Tensor) -> tuple[int, ...]:
    """Of the batch, the layers, rows and columns; F has no layers."""
    strides = source.stride()
    return strides if source.ndim == 4 else (strides[0], 0, *strides[1:])


class _Level:
    """One pair of launches: forward and, where a gradient is wanted, backward."""

    def __init__(self, source: Tensor, exposures: Tensor, options: _Options) -> None:
        self.source, self.exposures, self.options = source, exposures, options
        self.batch, self.count, self.height, self.width = exposures.shape
        self.taps = options.taps(self.height, self.width)
        self.windows = (
            self.height - len(self.taps["TAPS_Y"]) + 1,
            self.width - len(self.taps["TAPS_X"]) + 1,
        )
        self.constants = {
            **self.taps,
            "K": self.count,
            "FROM_LOGITS": source.ndim == 4,
            "COLUMNS": COLUMNS,
            "num_warps": WARPS,
        }
        strips = self.batch * cdiv(self.windows[1], COLUMNS)
        self.rows = _rows(strips, self.windows[0], source.device)
        self.programs = strips * cdiv(self.windows[0], self.rows)

    def single(self, *shape: int) -> Tensor:
        import torch

        return self.source.new_empty(shape, dtype=torch.float32)

    def forward(
        self,
        weights: Tensor | None,
        norm: Tensor | None,
        scale: float,
        partials: Tensor | None,
        values: Tensor | None,
        with_maps: bool,
    ) -> None:
        """Makes what is given; ``weights`` are those of windows."""
        self.maps = self.single(self.batch, 2 + self.count, *self.windows) if with_maps else None
        self.shifts = self.single(self.batch, 1 + self.count) if with_maps else None
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
            **self.options.constants,
            **self.constants,
        )

    def backward(
        self,
        coarse: Tensor | None,
        gradient: Tensor,
        partials: Tensor | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """Fills the gradient, ``coarse`` being that of the next level; and adds up the value."""
        strips = self.batch * cdiv(self.width, COLUMNS)
        rows = _rows(strips, self.height, self.source.device)
        launch(
            backward_kernel,
            strips * cdiv(self.height, rows),
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
            **self.constants,
        )
        return gradient


def _dense(source: Tensor) -> Tensor:
    return source.new_empty(source.shape)


def _crop(mask: Tensor, windows: tuple[int, int]) -> Tensor:
    """The mask at the centres of the windows."""
    top, left = ((n - w) // 2 for n, w in zip(mask.shape[1:], windows, strict=True))
    return mask[:, top : top + windows[0], left : left + windows[1]]


def weighted_ssim_loss(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    """The op of :mod:`fastmef.ops.loss`: the value in float32, and the gradient or nothing."""
    *others, scales, with_gradient = options
    parsed = _Options(*others)
    level = _Level(source, exposures, parsed)
    value = level.single()
    partials = level.single(level.programs)
    weights = norm = None
    windows = level.batch * level.windows[0] * level.windows[1]
    if mask is not None:
        import torch

        weights = _crop(mask, level.windows)
        norm = weights.sum(dtype=torch.float32)
        windows = 1
    level.forward(weights, norm, 1 / windows, partials, None, with_gradient)
    if not with_gradient:
        launch(sum_kernel, 1, source.device, partials, value, partials.numel())
        return value, source.new_empty((0,))
    return value, level.backward(None, _dense(source), partials, value)


def weighted_ssim_map(fused: Tensor, exposures: Tensor, *options: Any) -> Tensor:
    """The op of :mod:`fastmef.ops.loss`: 1 - q at every window."""
    level = _Level(fused, exposures, _Options(*options))
    values = fused.new_empty((level.batch, *level.windows))
    level.forward(None, None, 1.0, None, values, False)
    return values


def weighted_ssim_map_backward(
    upstream: Tensor, fused: Tensor, exposures: Tensor, *options: Any
) -> Tensor:
    """The op of :mod:`fastmef.ops.loss`: the gradient of the map by F."""
    level = _Level(fused, exposures, _Options(*options))
    level.forward(upstream, None, 1.0, None, None, True)
    return level.backward(None, _dense(fused))
