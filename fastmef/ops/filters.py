"""local_variance, sobel_gradient and gamma_weights: the maps the loss is made of.

Images are flattened to ``(N, H, W)`` for the kernels. The backward passes save the inputs only and
make from them again what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops._arrays import (
    BORDERS,
    attribute_bits,
    axis_taps,
    flatten_planes,
    gradient_like,
    gray_stack,
    map_like,
    map_shape,
    require,
)
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register, triton_launcher


class _Filter(NamedTuple):
    """A product of attributes; with ``eps`` as shares of the sum over the exposures."""

    attributes: str
    window: int
    sigma: float | None
    floor: float
    border: str = "valid"
    eps: float | None = None


def _variance(*options: Any) -> _Filter:
    return _Filter("variance", *options)


def _sobel() -> _Filter:
    return _Filter("gradient", 1, None, 0.0)


def _gamma(attributes: str, window: int, sigma: float | None, floor: float, eps: float) -> _Filter:
    return _Filter(attributes, window, sigma, floor, eps=eps)


def _sweep(
    which: _Filter,
    images: Tensor,
    values: Tensor | None = None,
    upstream: Tensor | None = None,
    gradient: Tensor | None = None,
) -> None:
    """Fills ``values`` or ``gradient``. ``(N, H, W)`` images are exposures of their own."""
    attributes, window, sigma, floor, border, eps = which
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


class _Op(NamedTuple):
    """A registered operation and the one of its gradient."""

    forward: Callable[..., Tensor]
    backward: Callable[..., Tensor]


def _register(
    name: str, arguments: str, parse: Callable[..., _Filter], kernel: str, backward_kernel: str
) -> _Op:
    """``arguments`` are those of the schema, images first; ``parse`` is given the others."""

    def new_values(images: Tensor, *options: Any) -> Tensor:
        which = parse(*options)
        return map_like(images, which.window, which.border)

    def values_cpu(images: Tensor, *options: Any) -> Tensor:
        values = new_values(images, *options)
        _sweep(parse(*options), images, values=values)
        return values

    def gradient_cpu(upstream: Tensor, images: Tensor, *options: Any) -> Tensor:
        gradient = gradient_like(images)
        _sweep(parse(*options), images, upstream=upstream, gradient=gradient)
        return gradient

    return _Op(
        register(
            f"{name}({arguments}) -> Tensor",
            new_values,
            cpp=values_cpu,
            triton=triton_launcher(f"filters.{kernel}", name),
        ),
        register(
            f"{name}_backward(Tensor upstream, {arguments}) -> Tensor",
            lambda upstream, images, *options: gradient_like(images),
            cpp=gradient_cpu,
            triton=triton_launcher(f"filters.{backward_kernel}", f"{name}_backward"),
        ),
    )


_OPS = {
    "local_variance": _register(
        "local_variance",
        "Tensor images, int window, float? sigma, float floor, str border",
        _variance,
        "variance",
        "variance",
    ),
    "sobel_gradient": _register("sobel_gradient", "Tensor images", _sobel, "sobel", "backward"),
    "gamma_weights": _register(
        "gamma_weights",
        "Tensor exposures, str attributes, int window, float? sigma, float floor, float eps",
        _gamma,
        "gamma",
        "gamma",
    ),
}


class Map(torch.autograd.Function):
    """One of the maps, by its name; the options follow the images."""

    @staticmethod
    def forward(ctx: Any, name: str, images: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(images)
        ctx.name = name
        ctx.options = options
        return _OPS[name].forward(images, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        gradient = _OPS[ctx.name].backward(upstream, images, *ctx.options)
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
