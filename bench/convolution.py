"""Compute window means with ``conv2d`` on a single channel, as other packages do.

The reference adds shifted images, which is several times faster on a CPU. Most loss functions use
convolutions, and a GPU launches fewer kernels for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef.reference import filters

T = TypeVar("T")


@lru_cache(maxsize=64)  # a CUDA graph must not contain the copy to the GPU
def _kernel(
    taps: tuple[float, ...], vertical: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    shape = (1, 1, len(taps), 1) if vertical else (1, 1, 1, len(taps))
    return torch.tensor(taps, dtype=dtype, device=device).reshape(shape)


class _Convolution:
    @staticmethod
    def apply(planes: Tensor, taps: tuple[float, ...], dim: int, padding: int) -> Tensor:
        vertical = dim == -2
        kernel = _kernel(taps, vertical, planes.dtype, planes.device)
        return F.conv2d(planes, kernel, padding=(padding, 0) if vertical else (0, padding))


def with_conv2d(function: Callable[..., T]) -> Callable[..., T]:
    """Return ``function``, compiled or not, with window means from ``conv2d``."""

    def run(*args: object, **options: object) -> T:
        with mock.patch.object(filters, "_WindowSum", _Convolution):
            return function(*args, **options)

    return run
