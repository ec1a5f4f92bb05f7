"""Window means as other packages form them: by ``conv2d`` with a single channel.

The reference adds shifted images, which a CPU does several times faster. Patched with this it is
the eager PyTorch that most loss functions are written in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from unittest import mock

import torch.nn.functional as F
from torch import Tensor

from fastmef.reference import filters

T = TypeVar("T")


class _Convolution:
    @staticmethod
    def apply(planes: Tensor, taps: tuple[float, ...], dim: int, padding: int) -> Tensor:
        vertical = dim == -2
        kernel = planes.new_tensor(taps).reshape(1, 1, *((-1, 1) if vertical else (1, -1)))
        return F.conv2d(planes, kernel, padding=(padding, 0) if vertical else (0, padding))


def by_convolution(function: Callable[..., T]) -> Callable[..., T]:
    """``function``, whose windows are now convolutions; also of what ``torch.compile`` returns."""

    def run(*args: object, **options: object) -> T:
        with mock.patch.object(filters, "_WindowSum", _Convolution):
            return function(*args, **options)

    return run
