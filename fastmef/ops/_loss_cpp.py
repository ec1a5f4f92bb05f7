"""The weighted SSIM loss by the C++ kernels: one sweep makes the value and the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef.backends import cpu_kernels
from fastmef.ops._arrays import axis_taps, plane_view, stack_view
from fastmef.reference.filters import crop_to_centers
from fastmef.reference.gamma import ATTRIBUTES, parse_attributes


def _levels(exposures: Tensor, options: dict[str, Any]) -> list[tuple[Any, ...]]:
    height, width = exposures.shape[2:]
    scales = options["scales"]
    window, sigma = options["window"], options["sigma"]
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
    options: dict[str, Any],
    gradient: Tensor | None = None,
    values: Tensor | None = None,
) -> float:
    from_logits = source.ndim == 4
    attributes = sum(
        1 << ATTRIBUTES.index(name) for name in parse_attributes(options["gamma"]) or ()
    )
    kernels = cpu_kernels()
    return kernels.weighted_ssim_loss(  # type: ignore[union-attr]
        source.dtype == torch.float64,
        *exposures.shape[:2],
        _levels(exposures, options),
        plane_view(None if from_logits else source),
        stack_view(source if from_logits else None),
        stack_view(exposures),
        plane_view(weight),
        weight_is_mask,
        attributes,
        options["luminance"],
        options["k1"] ** 2,
        options["k2"] ** 2,
        options["floor"],
        options["eps"],
        0 if gradient is None else gradient.data_ptr(),
        0 if values is None else values.data_ptr(),
        torch.get_num_threads(),
    )


def _gradient_like(source: Tensor) -> Tensor:
    return torch.empty(source.shape, dtype=source.dtype)


class Loss(torch.autograd.Function):
    """A scalar: the gradient by ``source`` (F or the logits) is made with it, or not at all."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, exposures: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> Tensor:
        gradient = _gradient_like(source) if ctx.needs_input_grad[0] else None
        value = _sweep(source, exposures, mask, True, options, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.tensor(value, dtype=source.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None


class LossMap(torch.autograd.Function):
    """The map 1 - q: the backward pass sweeps again with the upstream gradient as weights."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, exposures: Tensor, options: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(fused, exposures)
        ctx.options = options
        values = torch.empty_like(crop_to_centers(fused, options["window"])).contiguous()
        _sweep(fused, exposures, None, False, options, values=values)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        fused, exposures = ctx.saved_tensors
        gradient = _gradient_like(fused)
        _sweep(fused, exposures, upstream, False, ctx.options, gradient)
        return gradient, None, None


def loss(source: Tensor, exposures: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
    return Loss.apply(source, exposures, mask, options)


def loss_map(
    fused: Tensor, exposures: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Tensor:
    values = LossMap.apply(fused, exposures, {**options, "scales": (1.0,)})
    return values if mask is None else values * crop_to_centers(mask, options["window"])
