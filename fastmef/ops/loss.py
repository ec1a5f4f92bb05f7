"""weighted_ssim_loss and fusion_loss: scalar losses whose gradient is made with the value.

One sweep makes the value and the gradient by F or the logits; the backward pass only scales. The
map of ``reduction="none"`` is swept again in its backward pass, with the upstream gradient as
weights of the windows. Gradients by the exposures and the mask come from the maps of
:mod:`fastmef.ops._loss_maps`.

float16 and bfloat16 are read as they are and computed in float32. Gradients and maps are rounded
once, to the input's dtype; the value is float32. With several levels the finest is swept last: the
coarser levels' gradients are summed in float32 in the room that its 16-bit gradient takes at the
end. No copy of an image is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops import _cuda, _loss_cuda, _loss_maps
from fastmef.ops._arrays import (
    attribute_bits,
    axis_taps,
    gradient_like,
    gray_stack,
    map_like,
    map_shape,
    require,
    scalar_dtype,
)
from fastmef.ops._by_reference import GradientInForward, Recompute
from fastmef.ops._library import register, triton_launcher
from fastmef.ops._recording import recorded
from fastmef.reference.filters import crop_to_centers

# The order in which options follow the tensors.
_OPTIONS = ("gamma", "luminance", "window", "sigma", "k1", "k2", "floor", "eps")
_WINDOW = _OPTIONS.index("window")
_OPTION_SCHEMA = (
    "str gamma, bool luminance, int window, float? sigma, float k1, float k2, float floor, "
    "float eps"
)


def _levels(
    exposures: Tensor, window: int, sigma: float | None, scales: Sequence[float]
) -> list[tuple[Any, ...]]:
    height, width = exposures.shape[2:]
    levels = []
    for scale in scales:
        taps = axis_taps(window, sigma, height), axis_taps(window, sigma, width)
        levels.append((height, width, *taps, scale / sum(scales)))
        height, width = (height + 1) // 2, (width + 1) // 2
    return levels


def _sweep(
    source: Tensor,
    exposures: Tensor,
    weight: Tensor | None,
    weight_is_mask: bool,
    options: Sequence[Any],
    scales: Sequence[float],
    gradient: Tensor | None = None,
    gradient_scale: float = 1.0,
    values: Tensor | None = None,
) -> float:
    gamma, luminance, window, sigma, k1, k2, floor, eps = options
    plane = exposures.shape[:1] + exposures.shape[2:]
    require(
        source.is_floating_point()
        and exposures.ndim == 4
        and exposures.numel() > 0
        and source.shape in (plane, exposures.shape)
        and (not weight_is_mask or weight is None or weight.shape == plane),
        f"the loss of {tuple(source.shape)} and {tuple(exposures.shape)} is not defined",
    )
    from_logits = source.ndim == 4
    return backends.CPU.weighted_ssim_loss(  # type: ignore[union-attr]
        source.dtype == torch.float64,
        *exposures.shape[:2],
        _levels(exposures, window, sigma, scales),
        gray_stack(None if from_logits else source),
        gray_stack(source if from_logits else None),
        gray_stack(exposures),
        gray_stack(weight),
        weight_is_mask,
        attribute_bits(gamma),
        luminance,
        k1**2,
        k2**2,
        floor,
        eps,
        gray_stack(gradient),
        gradient_scale,
        gray_stack(values),
        torch.get_num_threads(),
    )


def gradient_scale(source: Tensor, mask: Tensor | None) -> float:
    """What the op multiplies the gradient by float16 inputs by.

    A pixel's share in the mean over all pixels would underflow, and no loss scaling could bring it
    back. With a mask the mean may be over a few windows: there the product must not overflow.
    """
    if source.dtype != torch.float16:
        return 1.0
    pixels = source.shape[0] * source.shape[-2] * source.shape[-1]
    return float(pixels if mask is None else min(pixels, 512))


def _loss_cpu(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    *others, scales, with_gradient = options
    gradient = gradient_like(source, with_gradient)
    scale = gradient_scale(source, mask)
    into = gradient if with_gradient else None
    value = _sweep(source, exposures, mask, True, others, scales, into, scale)
    return torch.tensor(value, dtype=scalar_dtype(source)), gradient


def _loss_cuda_sweep(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    *others, _, with_gradient = options
    gradient = gradient_like(source, with_gradient)
    scale = gradient_scale(source, mask)
    into = gradient if with_gradient else None
    return _loss_cuda.sweep(source, exposures, others, into, scale), gradient


def _loss_fits(source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any) -> bool:
    *others, scales, _ = options
    operation = "fusion_loss" if source.ndim == 4 else "weighted_ssim_loss"
    chosen = backends.choose(
        operation,
        source,
        exposures,
        mask,
        cuda=_loss_cuda.covers(exposures, mask, others[_WINDOW], scales),
    )
    return chosen == backends.CUDA and _cuda.has_kernels(source.device.index)


def _loss_like(
    source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    with_gradient = options[-1]
    value = source.new_empty((), dtype=scalar_dtype(source))
    return value, gradient_like(source, with_gradient)


def _map_like(fused: Tensor, exposures: Tensor, *options: Any) -> Tensor:
    return map_like(fused, options[_WINDOW])


def _map_cpu(fused: Tensor, exposures: Tensor, *options: Any) -> Tensor:
    require(fused.ndim == 3, "the map is one of F")
    values = _map_like(fused, exposures, *options)
    _sweep(fused, exposures, None, False, options, (1.0,), values=values)
    return values


def _map_backward_cpu(upstream: Tensor, fused: Tensor, exposures: Tensor, *options: Any) -> Tensor:
    require(
        fused.ndim == 3 and upstream.shape == map_shape(fused, options[_WINDOW], "valid"),
        "the upstream gradient has the shape of the map of F",
    )
    gradient = gradient_like(fused)
    _sweep(fused, exposures, upstream, False, options, (1.0,), gradient)
    return gradient


_loss = register(
    f"weighted_ssim_loss(Tensor source, Tensor exposures, Tensor? mask, {_OPTION_SCHEMA}, "
    "float[] scales, bool with_gradient) -> (Tensor, Tensor)",
    _loss_like,
    cpp=_loss_cpu,
    cuda=_loss_cuda_sweep,
    cuda_fits=_loss_fits,
    triton=triton_launcher("loss.launchers", "weighted_ssim_loss"),
)
_loss_map = register(
    f"weighted_ssim_map(Tensor fused, Tensor exposures, {_OPTION_SCHEMA}) -> Tensor",
    _map_like,
    cpp=_map_cpu,
    triton=triton_launcher("loss.launchers", "weighted_ssim_map"),
)
_loss_map_backward = register(
    "weighted_ssim_map_backward(Tensor upstream, Tensor fused, Tensor exposures, "
    f"{_OPTION_SCHEMA}) -> Tensor",
    lambda upstream, fused, *others: gradient_like(fused),
    cpp=_map_backward_cpu,
    triton=triton_launcher("loss.launchers", "weighted_ssim_map_backward"),
)


class Loss(torch.autograd.Function):
    """A scalar: the gradient by ``source`` (F or the logits) is made with it, or not at all."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, exposures: Tensor, mask: Tensor | None, *options: Any
    ) -> Tensor:
        value, gradient = _loss(source, exposures, mask, *options, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        ctx.scale = gradient_scale(source, mask)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        upstream = upstream / ctx.scale
        if gradient.is_cuda and gradient.dtype == torch.float16:
            # The product would round the scalar to float16 first, where 65536, the usual start of
            # loss scaling, is infinite. On the CPU it does so for a scalar on the left.
            by_source = (gradient.float() * upstream).half()
        else:
            by_source = gradient * upstream
        return by_source, *(None,) * (3 + len(_OPTIONS))


class LossMap(torch.autograd.Function):
    """The map 1 - q."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, exposures: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(fused, exposures)
        ctx.options = options
        return _loss_map(fused, exposures, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        fused, exposures = ctx.saved_tensors
        gradient = _loss_map_backward(upstream, fused, exposures, *ctx.options)
        return gradient, *(None,) * (1 + len(_OPTIONS))


def _values(options: dict[str, Any]) -> list[Any]:
    return [options[name] for name in _OPTIONS]


def _fast(
    operation: str,
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    reduction: str,
    options: dict[str, Any],
) -> bool:
    if exposures.requires_grad or (mask is not None and mask.requires_grad):
        return False
    cuda = reduction == "mean" and _loss_cuda.covers(
        exposures, mask, options["window"], options["scales"]
    )
    chosen = backends.choose(operation, source, exposures, mask, cuda=cuda)
    return chosen != backends.REFERENCE


def _by_kernels(operations: Sequence[str], *tensors: Tensor | None) -> bool:
    return all(backends.choose(name, *tensors) != backends.REFERENCE for name in operations)


def weighted_ssim_loss(
    fused: Tensor, exposures: Tensor, mask: Tensor | None, reduction: str, **options: Any
) -> Tensor:
    fused, exposures = recorded(fused), recorded(exposures)
    mask = None if mask is None else recorded(mask)
    if _fast("weighted_ssim_loss", fused, exposures, mask, reduction, options):
        if reduction == "mean":
            return Loss.apply(fused, exposures, mask, *_values(options), options["scales"])
        values = LossMap.apply(fused, exposures, *_values(options))
        return values if mask is None else values * crop_to_centers(mask, options["window"])
    if _by_kernels(("gamma_weights", "ssim"), fused, exposures, mask):
        return _loss_maps.weighted_ssim_loss(fused, exposures, mask, reduction, **options)

    def compute(fused: Tensor, exposures: Tensor, mask: Tensor | None) -> Tensor:
        return reference.weighted_ssim_loss(
            fused, exposures, mask=mask, reduction=reduction, **options
        )

    function = Recompute if reduction == "none" else GradientInForward
    return function.apply(compute, fused, exposures, mask)


def fusion_loss(logits: Tensor, exposures: Tensor, **options: Any) -> Tensor:
    logits, exposures = recorded(logits), recorded(exposures)
    if _fast("fusion_loss", logits, exposures, None, "mean", options):
        return Loss.apply(logits, exposures, None, *_values(options), options["scales"])
    if _by_kernels(("softmax_fuse", "gamma_weights", "ssim"), logits, exposures):
        return _loss_maps.fusion_loss(logits, exposures, **options)
    return GradientInForward.apply(partial(reference.fusion_loss, **options), logits, exposures)
