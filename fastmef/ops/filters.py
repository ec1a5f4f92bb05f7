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
from fastmef.ops._arrays import flatten_planes, map_like
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register, triton_launcher

_VARIANCE_OPTIONS = "int window, float? sigma, float floor, str border"
_GAMMA_OPTIONS = "str attributes, int window, float? sigma, float floor, float eps"


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
    triton=triton_launcher("filters", "local_variance"),
)
_variance_backward = register(
    f"local_variance_backward(Tensor upstream, Tensor images, {_VARIANCE_OPTIONS}) -> Tensor",
    _backward_fake,
    triton=triton_launcher("filters", "local_variance_backward"),
)
_sobel = register(
    "sobel_gradient(Tensor images) -> Tensor",
    _same_fake,
    triton=triton_launcher("filters", "sobel_gradient"),
)
_sobel_backward = register(
    "sobel_gradient_backward(Tensor upstream, Tensor images) -> Tensor",
    _backward_fake,
    triton=triton_launcher("filters", "sobel_gradient_backward"),
)
_gamma = register(
    f"gamma_weights(Tensor exposures, {_GAMMA_OPTIONS}) -> Tensor",
    _gamma_fake,
    triton=triton_launcher("filters", "gamma_weights"),
)
_gamma_backward = register(
    f"gamma_weights_backward(Tensor upstream, Tensor exposures, {_GAMMA_OPTIONS}) -> Tensor",
    _backward_fake,
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
