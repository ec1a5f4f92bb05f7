"""Compare the time of a fusion with that of its convolutions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDS = 3


def measure_share(run: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of ``run``, those of its convolutions alone, and their ratio.

    Every convolution that ``run`` computes, by a module, a function or as oneDNN's operation with
    an activation, is computed again as often by ``F.conv2d``, on features of the same size, dtype
    and layout, but without what lies around it: activation, border, pools and copies. Both are
    the best of three rounds.
    """
    with _Calls() as calls:
        run()
    seconds = min(_seconds(run) for _ in range(ROUNDS))
    alone = 0.0
    with torch.no_grad():
        for key, count in calls.counts.items():
            given = calls.examples[key]
            best = min(_seconds(lambda: F.conv2d(*given)) for _ in range(ROUNDS))  # noqa: B023
            alone += count * best
    return {"seconds": seconds, "convolution_seconds": alone, "ratio": seconds / alone}


class _Convolution(NamedTuple):
    """What ``F.conv2d`` takes."""

    features: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int


class _Calls(TorchDispatchMode):
    """Counts convolutions by their sizes, and keeps one of each size, of random features."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Any] = Counter()
        self.examples: dict[Any, _Convolution] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if name == "aten::convolution":
            *first, _transposed, _output_padding, groups = args
            self._count(_Convolution(*first, groups))
        elif name == "mkldnn::_convolution_pointwise":
            features, weight, bias, padding, stride, dilation, groups = args[:7]
            options = stride, padding, dilation, groups
            self._count(_Convolution(features, weight, bias, *options))
        return func(*args, **(kwargs or {}))

    def _count(self, call: _Convolution) -> None:
        features, weight, bias, *options = call
        sizes = tuple(features.shape), features.stride(), features.dtype, tuple(weight.shape)
        key = sizes, bias is None, str(options)
        self.counts[key] += 1
        if key not in self.examples:
            self.examples[key] = call._replace(features=torch.rand_like(features))


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
