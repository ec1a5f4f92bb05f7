"""Call the kernels of weighted_ssim_loss and fusion_loss.

The C++ kernels handle every case in one sweep. The CUDA C++ kernels take one launch for the images
of the coarser scales and one for the loss of all scales. They handle windows of 11 pixels and two
or three exposures without a mask; on a GPU, Triton handles all other windows that fit into the
registers of a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common import cuda
from fastmef.ops.common.operation import triton_launcher
from fastmef.ops.common.rings import rings_fit
from fastmef.ops.common.tensors import (
    STORAGE,
    Taps,
    attribute_bits,
    axis_taps,
    gradient_like,
    gray_stack,
    map_like,
    map_shape,
    require,
    scalar_dtype,
    window_taps,
)
from fastmef.reference.loss import LossOptions

CUDA_WINDOW = 11
CUDA_COUNTS = (2, 3)
CUDA_MOST_SCALES = 6


def kernel_options(options: LossOptions, gamma: str | int) -> tuple[Any, ...]:
    """Return the arguments of all kernels after the taps; ``gamma`` is in the backend's form."""
    _, luminance, _, _, k1, k2, floor, eps = options
    return gamma, luminance, k1**2, k2**2, floor, eps


def new_loss(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor]:
    """Allocate the value and the gradient, which is empty if it is not wanted."""
    with_gradient = given[-1]
    value = source.new_empty((), dtype=scalar_dtype(source))
    return value, gradient_like(source, with_gradient)


def new_map(fused: Tensor, exposures: Tensor, *given: Any) -> Tensor:
    """Allocate the map."""
    return map_like(fused, LossOptions(*given).window)


def gradient_scale(source: Tensor, mask: Tensor | None) -> float:
    """Return the factor with which the kernels scale the gradient w.r.t. float16 inputs.

    Unscaled, the weight of one pixel in the mean over all pixels would underflow, and no loss
    scaling could undo that. A mask may restrict the mean to a few windows, where a factor above 512
    could overflow.
    """
    if source.dtype != torch.float16:
        return 1.0
    pixels = source.shape[0] * source.shape[-2] * source.shape[-1]
    return float(pixels if mask is None else min(pixels, 512))


def _level_sizes(exposures: Tensor, scales: Sequence[float]) -> list[tuple[int, int]]:
    """Return the height and the width of every level, finest first."""
    height, width = exposures.shape[2:]
    sizes = []
    for _ in scales:
        sizes.append((height, width))
        height, width = (height + 1) // 2, (width + 1) // 2
    return sizes


def _level_taps(exposures: Tensor, options: LossOptions, scales: Sequence[float]) -> list[Taps]:
    """Return the taps along the height and the width of every level, finest first."""
    sizes = _level_sizes(exposures, scales)
    return [
        (axis_taps(options.window, options.sigma, h), axis_taps(options.window, options.sigma, w))
        for h, w in sizes
    ]


def _require_images(source: Tensor, exposures: Tensor) -> None:
    """Refuse what is neither an image F nor logits of the exposures."""
    shape = exposures.shape
    fits = len(shape) == 4 and exposures.numel() > 0
    if not fits or (source.shape != shape and source.shape != shape[:1] + shape[2:]):
        require(False, f"the loss of {tuple(source.shape)} and {tuple(shape)} is not defined")


def _call_cpp(
    source: Tensor,
    exposures: Tensor,
    weight: Tensor | None,
    weight_is_mask: bool,
    options: LossOptions,
    scales: Sequence[float],
    gradient: Tensor | None = None,
    gradient_scale: float = 1.0,
    values: Tensor | None = None,
) -> float:
    """Return the value and fill ``gradient`` or ``values``, if given.

    ``weight`` is the mask ``(B, H, W)``, or else the gradient w.r.t. the map of a single level.
    """
    _require_images(source, exposures)
    plane = exposures.shape[:1] + exposures.shape[2:]
    require(
        source.is_floating_point()
        and (not weight_is_mask or weight is None or weight.shape == plane),
        "the loss takes floating-point numbers, and a mask of one plane an image",
    )
    sizes, taps = _level_sizes(exposures, scales), _level_taps(exposures, options, scales)
    total = sum(scales)
    from_logits = source.ndim == 4
    return backends.CPU.weighted_ssim_loss(  # type: ignore[union-attr, no-any-return]
        source.dtype == torch.float64,
        *exposures.shape[:2],
        [(*size, *t, scale / total) for size, t, scale in zip(sizes, taps, scales, strict=True)],
        gray_stack(None if from_logits else source),
        gray_stack(source if from_logits else None),
        gray_stack(exposures),
        gray_stack(weight),
        weight_is_mask,
        *kernel_options(options, attribute_bits(options.gamma)),
        gray_stack(gradient),
        gradient_scale,
        gray_stack(values),
        torch.get_num_threads(),
    )


def loss_cpp(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor]:
    *options, scales, with_gradient = given
    gradient = gradient_like(source, with_gradient)
    scale = gradient_scale(source, mask)
    into = gradient if with_gradient else None
    value = _call_cpp(source, exposures, mask, True, LossOptions(*options), scales, into, scale)
    return torch.tensor(value, dtype=scalar_dtype(source)), gradient


def map_cpp(fused: Tensor, exposures: Tensor, *given: Any) -> Tensor:
    require(fused.ndim == 3, "the map takes F, not logits")
    values = new_map(fused, exposures, *given)
    _call_cpp(fused, exposures, None, False, LossOptions(*given), (1.0,), values=values)
    return values


def map_backward_cpp(grad_output: Tensor, fused: Tensor, exposures: Tensor, *given: Any) -> Tensor:
    options = LossOptions(*given)
    require(
        fused.ndim == 3 and grad_output.shape == map_shape(fused, options.window, "valid"),
        "grad_output must have the shape of the map of F",
    )
    grad_fused = gradient_like(fused)
    _call_cpp(fused, exposures, grad_output, False, options, (1.0,), grad_fused)
    return grad_fused


def cuda_covers(
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    *,
    window: int,
    scales: Sequence[float],
    reduction: str = "mean",
) -> bool:
    """Return whether the CUDA C++ kernels handle this case."""
    return (
        reduction == "mean"
        and mask is None
        and window == CUDA_WINDOW
        and exposures.shape[1] in CUDA_COUNTS
        and scales[0] > 0
        and len(_used(scales)) <= CUDA_MOST_SCALES
        and min(_level_sizes(exposures, _used(scales))[-1]) >= CUDA_WINDOW
    )


def triton_covers(
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    *,
    window: int,
    scales: Sequence[float] = (1.0,),
    reduction: str = "mean",
) -> bool:
    """Return whether the windows of F and all exposures fit into the registers of a thread."""
    return rings_fit(exposures, window, maps=2 + 3 * exposures.shape[1])


def _used(scales: Sequence[float]) -> Sequence[float]:
    """Return the scales up to the last one whose weight is not 0."""
    last = len(scales)
    while not scales[last - 1]:
        last -= 1
    return scales[:last]


class CudaLaunch:
    """A launch of the CUDA C++ kernels for all tensors of the same shapes, strides and dtypes."""

    def __init__(
        self,
        source: Tensor,
        exposures: Tensor,
        options: LossOptions,
        scales: Sequence[float],
        with_gradient: bool,
    ) -> None:
        """Prepare the arguments of the launch; only the tensors' geometry is read."""
        _require_images(source, exposures)
        batch, count, height, width = exposures.shape
        scales = _used(scales)
        module: Any = backends.CUDA_MODULE
        self.scale_gradient = module.scale_gradient
        self.dtype, self.gradient_scale = STORAGE.index(source.dtype), gradient_scale(source, None)
        # Allocating takes less time without a memory format, and without a dtype and a device.
        dense = source.is_contiguous() and with_gradient
        self.gradient = torch.empty_like if dense else partial(gradient_like, wanted=with_gradient)
        self.value = source.new_empty((), dtype=torch.float32)
        self.workspace = source.new_empty((0,), dtype=torch.float64)
        self.workspace_size = module.loss_workspace(batch, count, height, width, len(scales))
        self.call = module.LossLaunch(
            (batch, count, 1, height, width),
            source.ndim == 4,
            gray_stack(source),
            gray_stack(exposures),
            gray_stack(gradient_like(source)),
            axis_taps(options.window, options.sigma, height),
            *kernel_options(options, attribute_bits(options.gamma)),
            self.gradient_scale,
            [scale / sum(scales) for scale in scales],
        )

    def __call__(self, source: Tensor, exposures: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and the gradient, which is empty if it is not wanted."""
        workspace = self.workspace.new_empty(self.workspace_size)
        value, gradient = torch.empty_like(self.value), self.gradient(source)
        self.call(
            cuda.device_and_stream("fusion_loss", source, exposures),
            source.data_ptr(),
            exposures.data_ptr(),
            gradient.data_ptr(),
            workspace.data_ptr(),
            value.data_ptr(),
        )
        return value, gradient

    def scale(self, gradient: Tensor, grad_output: Tensor) -> None:
        """Scale a gradient of this launch in place, like ``scale_gradient_``."""
        self.scale_gradient(
            cuda.device_and_stream("scale_gradient", gradient),
            gradient.data_ptr(),
            self.dtype,
            gradient.numel(),
            grad_output.data_ptr(),
            self.gradient_scale,
        )


def loss_cuda(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor]:
    *others, scales, with_gradient = given
    launch = CudaLaunch(source, exposures, LossOptions(*others), scales, with_gradient)
    return launch(source, exposures)


def scale_cuda(gradient: Tensor, grad_output: Tensor, divisor: float) -> None:
    require(
        gradient.is_contiguous() and grad_output.numel() == 1,
        "scale_gradient_ needs a contiguous gradient and one factor",
    )
    backends.CUDA_MODULE.scale_gradient(  # type: ignore[union-attr]
        cuda.device_and_stream("scale_gradient", gradient, grad_output),
        gradient.data_ptr(),
        STORAGE.index(gradient.dtype),
        gradient.numel(),
        grad_output.data_ptr(),
        divisor,
    )


scale_triton = triton_launcher("loss.scale", "scale_gradient")
_launch_loss = triton_launcher("loss.launchers", "weighted_ssim_loss")
_launch_map = triton_launcher("loss.launchers", "weighted_ssim_map")
_launch_map_backward = triton_launcher("loss.launchers", "weighted_ssim_map_backward")


def loss_triton(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor]:
    *others, scales, with_gradient = given
    options = LossOptions(*others)
    return _launch_loss(
        source,
        exposures,
        mask,
        _level_taps(exposures, options, scales),
        scales,
        gradient_scale(source, mask),
        with_gradient,
        *kernel_options(options, options.gamma),
    )


def map_triton(fused: Tensor, exposures: Tensor, *given: Any) -> Tensor:
    options = LossOptions(*given)
    taps = window_taps(exposures, options.window, options.sigma)
    return _launch_map(fused, exposures, taps, *kernel_options(options, options.gamma))


def map_backward_triton(
    grad_output: Tensor, fused: Tensor, exposures: Tensor, *given: Any
) -> Tensor:
    options = LossOptions(*given)
    taps = window_taps(exposures, options.window, options.sigma)
    others = kernel_options(options, options.gamma)
    return _launch_map_backward(grad_output, fused, exposures, taps, *others)
