"""local_variance, sobel_gradient, gamma_weights and ssim: the maps the loss is made of."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from fastmef import reference
from fastmef.ops._by_reference import Recompute


def local_variance(images: Tensor, **options: Any) -> Tensor:
    return Recompute.apply(partial(reference.local_variance, **options), images)


def sobel_gradient(images: Tensor) -> Tensor:
    return Recompute.apply(reference.sobel_gradient, images)


def gamma_weights(exposures: Tensor, **options: Any) -> Tensor:
    return Recompute.apply(partial(reference.gamma_weights, **options), exposures)


def ssim(a: Tensor, b: Tensor, **options: Any) -> Tensor:
    return Recompute.apply(partial(reference.ssim, **options), a, b)
