"""local_variance, sobel_gradient and gamma_weights: the maps the loss is made of.

Images are flattened to ``(N, H, W)`` for the kernels. The backward passes save the inputs only and
make from them again what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops._arrays import (
    BORDERS,
    attribute_bits,
    axis_taps,
    flatten_planes,
    gray_stack,
    map_like,
    map_shape,
    require,
)
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register, triton_launcher

_VARIANCE_OPTIONS = "int window, float? sigma, float floor, str border"
_GAMMA_OPTIONS = "str attributes, int window, float? sigma, float floor, float eps"


def _sweep(
    images: Tensor,
    attributes: str,
    window: int,
    sigma: float | None,
    floor: float,
    border: str = "valid",
    eps: float | None = None,
    values: Tensor | None = None,
    upstream: Tensor | None = None,
    gradient: Tensor | None = None,
) -> None:
    """Products of attributes into ``values``, or their gradient; with ``eps`` as shares of the sum.

    ``(N, H, W)`` images are exposures of their own.
    """
    require(
        images.is_floating_point()
        and images.ndim in (3, 4)
        and images.numel() > 0
        and (upstream is None or upstream.shape == map_shape(images, window, border)),
        f"filters of {tuple(images.shape)} are not defined, or a gradient does not fit",
    )
    height, width = images.shape[-2:]
    backends.CPU.filters(  # type: ignore[union-attr]
        images.dtype == torch.float64,
        (images.shape[0], images.shape[1] if images.ndim == 4 else 1, height, width),
        axis_taps(window, sigma, height),
        axis_taps(window, sigma, width),
        BORDERS.index(border),
        attribute_bits(attributes),
        eps is not None,
        floor,
        0.0 if eps is None else eps,
        gray_stack(images),
        gray_stack(values),
        gray_stack(upstream),
        gray_stack(gradient),
        torch.get_num_threads(),
    )


def _variance_cpu(
    images: Tensor, window: int, sigma: float | None, floor: float, border: str
) -> Tensor:
    values = map_like(images, window, border)
    _sweep(images, "variance", window, sigma, floor, border, values=values)
    return values


def _variance_backward_cpu(
    upstream: Tensor, images: Tensor, window: int, sigma: float | None, floor: float, border: str
) -> Tensor:
    gradient = images.new_empty(images.shape)
    _sweep(images, "variance", window, sigma, floor, border, upstream=upstream, gradient=gradient)
    return gradient


def _sobel_cpu(images: Tensor) -> Tensor:
    values = images.new_empty(images.shape)
    _sweep(images, "gradient", 1, None, 0.0, values=values)
    return values


def _sobel_backward_cpu(upstream: Tensor, images: Tensor) -> Tensor:
    gradient = images.new_empty(images.shape)
    _sweep(images, "gradient", 1, None, 0.0, upstream=upstream, gradient=gradient)
    return gradient


def _gamma_cpu(
    exposures: Tensor, attributes: str, window: int, sigma: float | None, floor: float, eps: float
) -> Tensor:
    values = map_like(exposures, window)
    _sweep(exposures, attributes, window, sigma, floor, eps=eps, values=values)
    return values


def _gamma_backward_cpu(
    upstream: Tensor,
    exposures: Tensor,
    attributes: str,
    window: int,
    sigma: float | None,
    floor: float,
    eps: float,
) -> Tensor:
    gradient = exposures.new_empty(exposures.shape)
    _sweep(
        exposures,
        attributes,
        window,
        sigma,
        floor,
        eps=eps,
        upstream=upstream,
        gradient=gradient,
    )
    return gradient


def _variance_fake(
    images: Tensor, window: int, sigma: float | None, floor: float, border: str
) -> Tensor:
    return map_like(images, window, border)


def _gamma_fake(exposures: Tensor, attributes: str, window: int, *options: Any) -> Tensor:
    return map_like(exposures, window, "valid")


def _same_fake(images: Tensor) -> Tensor:
    return images.new_empty(images.shape)


def _backward_fake(upstream: Tensor, images: Tensor, *options: Any) -> Tensor:
    return images.new_empty(images.shape)


_variance = register(
    f"local_variance(Tensor images, {_VARIANCE_OPTIONS}) -> Tensor",
    _variance_fake,
    cpp=_variance_cpu,
    triton=triton_launcher("filters", "local_variance"),
)
_variance_backward = register(
    f"local_variance_backward(Tensor upstream, Tensor images, {_VARIANCE_OPTIONS}) -> Tensor",
    _backward_fake,
    cpp=_variance_backward_cpu,
    triton=triton_launcher("filters", "local_variance_backward"),
)
_sobel = register(
    "sobel_gradient(Tensor images) -> Tensor",
    _same_fake,
    cpp=_sobel_cpu,
    triton=triton_launcher("filters", "sobel_gradient"),
)
_sobel_backward = register(
    "sobel_gradient_backward(Tensor upstream, Tensor images) -> Tensor",
    _backward_fake,
    cpp=_sobel_backward_cpu,
    triton=triton_launcher("filters", "sobel_gradient_backward"),
)
_gamma = register(
    f"gamma_weights(Tensor exposures, {_GAMMA_OPTIONS}) -> Tensor",
    _gamma_fake,
    cpp=_gamma_cpu,
    triton=triton_launcher("filters", "gamma_weights"),
)
_gamma_backward = register(
    f"gamma_weights_backward(Tensor upstream, Tensor exposures, {_GAMMA_OPTIONS}) -> Tensor",
    _backward_fake,
    cpp=_gamma_backward_cpu,
    triton=triton_launcher("filters", "gamma_weights_backward"),
)


# The op of each map and the one of its gradient.
_OPS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "local_variance": (_variance, _variance_backward),
    "sobel_gradient": (_sobel, _sobel_backward),
    "gamma_weights": (_gamma, _gamma_backward),
}


class Map(torch.autograd.Function):
    """One of the maps, by its name; the options follow the images."""

    @staticmethod
    def forward(ctx: Any, name: str, images: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(images)
        ctx.name = name
        ctx.options = options
        return _OPS[name][0](images, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        gradient = _OPS[ctx.name][1](upstream, images, *ctx.options)
        return None, gradient, *(None,) * len(ctx.options)


def _planewise(name: str, images: Tensor, *options: Any) -> Tensor:
    out = Map.apply(name, flatten_planes(images), *options)
    return out.reshape(*images.shape[:-2], *out.shape[-2:])


def local_variance(
    images: Tensor, window: int, sigma: float | None, floor: float, border: str
) -> Tensor:
    if backends.choose("local_variance", images) != backends.REFERENCE:
        return _planewise("local_variance", images, window, sigma, floor, border)
    compute = partial(
        reference.local_variance, window=window, sigma=sigma, floor=floor, border=border
    )
    return Recompute.apply(compute, images)


def sobel_gradient(images: Tensor) -> Tensor:
    if backends.choose("sobel_gradient", images) != backends.REFERENCE:
        return _planewise("sobel_gradient", images)
    return Recompute.apply(reference.sobel_gradient, images)


def gamma_weights(
    exposures: Tensor, attributes: str, window: int, sigma: float | None, floor: float, eps: float
) -> Tensor:
    if backends.choose("gamma_weights", exposures) != backends.REFERENCE:
        return Map.apply("gamma_weights", exposures, attributes, window, sigma, floor, eps)
    compute = partial(
        reference.gamma_weights,
        attributes=attributes,
        window=window,
        sigma=sigma,
        floor=floor,
        eps=eps,
    )
    return Recompute.apply(compute, exposures)
