"""ssim: its mean, whose gradients are made with the value, and its map.

Images are flattened to ``(N, H, W)`` for the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops._arrays import (
    BORDERS,
    axis_taps,
    flatten_planes,
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

_OPTIONS = "int window, float? sigma, float c1, float c2, bool luminance, str border"


def _sweep(
    a: Tensor,
    b: Tensor,
    options: Sequence[Any],
    values: Tensor | None = None,
    upstream: Tensor | None = None,
    weight: float = 0.0,
    by_a: Tensor | None = None,
    by_b: Tensor | None = None,
) -> float:
    window, sigma, c1, c2, luminance, border = options
    require(
        a.is_floating_point()
        and a.dtype == b.dtype
        and a.ndim == 3
        and a.shape == b.shape
        and a.numel() > 0
        and (upstream is None or upstream.shape == map_shape(a, window, border)),
        f"ssim of {tuple(a.shape)} and {tuple(b.shape)} is not defined, or a gradient does not fit",
    )
    return backends.CPU.ssim(  # type: ignore[union-attr]
        a.dtype == torch.float64,
        tuple(a.shape),
        axis_taps(window, sigma, a.shape[1]),
        axis_taps(window, sigma, a.shape[2]),
        BORDERS.index(border),
        luminance,
        c1,
        c2,
        gray_stack(a),
        gray_stack(b),
        gray_stack(values),
        gray_stack(upstream),
        weight,
        gray_stack(by_a),
        gray_stack(by_b),
        torch.get_num_threads(),
    )


def _map_like(a: Tensor, b: Tensor, *options: Any) -> Tensor:
    window, *_, border = options
    return map_like(a, window, border)


def _map_cpu(a: Tensor, b: Tensor, *options: Any) -> Tensor:
    values = _map_like(a, b, *options)
    _sweep(a, b, options, values)
    return values


def _gradients_like(a: Tensor, b: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    *_, for_a, for_b = options
    return gradient_like(a, for_a), gradient_like(b, for_b)


def _gradients_cpu(
    a: Tensor, b: Tensor, *options: Any, upstream: Tensor | None = None, weight: float = 0.0
) -> tuple[float, Tensor, Tensor]:
    """The sum of the map and the gradients, the windows weighted by ``upstream`` or ``weight``."""
    *others, for_a, for_b = options
    by_a, by_b = _gradients_like(a, b, *options)
    wanted = by_a if for_a else None, by_b if for_b else None
    return _sweep(a, b, others, None, upstream, weight, *wanted), by_a, by_b


def _map_backward_cpu(
    upstream: Tensor, a: Tensor, b: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    _, by_a, by_b = _gradients_cpu(a, b, *options, upstream=upstream)
    return by_a, by_b


def _mean_cpu(a: Tensor, b: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    window, *_, border, _, _ = options
    share = 1 / max(1, math.prod(map_shape(a, window, border)))
    total, by_a, by_b = _gradients_cpu(a, b, *options, weight=share)
    return torch.tensor(share * total, dtype=scalar_dtype(a)), by_a, by_b


def _mean_like(a: Tensor, b: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty((), dtype=scalar_dtype(a)), *_gradients_like(a, b, *options)


_map = register(
    f"ssim_map(Tensor a, Tensor b, {_OPTIONS}) -> Tensor",
    _map_like,
    cpp=_map_cpu,
    triton=triton_launcher("ssim.launchers", "ssim_map"),
)
_map_backward = register(
    f"ssim_map_backward(Tensor upstream, Tensor a, Tensor b, {_OPTIONS}, bool for_a, bool for_b) "
    "-> (Tensor, Tensor)",
    lambda upstream, *arguments: _gradients_like(*arguments),
    cpp=_map_backward_cpu,
    triton=triton_launcher("ssim.launchers", "ssim_map_backward"),
)
_mean = register(
    f"ssim_mean(Tensor a, Tensor b, {_OPTIONS}, bool for_a, bool for_b) "
    "-> (Tensor, Tensor, Tensor)",
    _mean_like,
    cpp=_mean_cpu,
    triton=triton_launcher("ssim.launchers", "ssim_mean"),
)


class SsimMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.options = options
        return _map(a, b, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        a, b = ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad[:2]
        by_a, by_b = _map_backward(upstream, a, b, *ctx.options, for_a, for_b)
        return by_a if for_a else None, by_b if for_b else None, *(None,) * len(ctx.options)


class SsimMean(torch.autograd.Function):
    """The wanted gradients are made with the value; the backward pass scales them."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, *options: Any) -> Tensor:
        wanted = ctx.needs_input_grad[:2]
        ctx.dtype = a.dtype
        if any(wanted) and a.dtype == torch.float16:
            # A pixel's share in the mean would underflow before the upstream gradient scales it.
            a, b = a.float(), b.float()
        value, by_a, by_b = _mean(a, b, *options, *wanted)
        ctx.save_for_backward(by_a, by_b)
        ctx.options = options
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        by_a, by_b = ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad[:2]
        return (
            (upstream * by_a).to(ctx.dtype) if for_a else None,
            (upstream * by_b).to(ctx.dtype) if for_b else None,
            *(None,) * len(ctx.options),
        )


def ssim(
    a: Tensor,
    b: Tensor,
    window: int,
    sigma: float | None,
    k1: float,
    k2: float,
    data_range: float,
    luminance: bool,
    border: str,
    reduction: str,
) -> Tensor:
    a, b = recorded(a), recorded(b)
    if backends.choose("ssim", a, b) != backends.REFERENCE:
        options = (window, sigma, (k1 * data_range) ** 2, (k2 * data_range) ** 2, luminance, border)
        planes = flatten_planes(a), flatten_planes(b)
        if reduction == "mean":
            return SsimMean.apply(*planes, *options)
        values = SsimMap.apply(*planes, *options)
        return values.reshape(*a.shape[:-2], *values.shape[-2:])
    compute = partial(
        reference.ssim,
        window=window,
        sigma=sigma,
        k1=k1,
        k2=k2,
        data_range=data_range,
        luminance=luminance,
        border=border,
        reduction=reduction,
    )
    function = GradientInForward if reduction == "mean" else Recompute
    return function.apply(compute, a, b)
