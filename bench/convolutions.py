"""Compare the time of a fusion with that of its convolutions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROUNDS = 3


def measure_share(run: Callable[[], Any]) -> dict[str, float]:
    """Return the seconds of ``run``, those of its convolutions alone, and their ratio.

    Every convolution that ``run`` calls is called again as often, on features of the same size,
    dtype and layout, but without padding, activation, pooling and copies in between. Both times are
    the best of three rounds.
    """
    calls: Counter[tuple[nn.Module, tuple[int, ...]]] = Counter()
    inputs: dict[tuple[nn.Module, tuple[int, ...]], Tensor] = {}

    def record(module: nn.Module, arguments: Any, result: Any) -> None:
        if isinstance(module, nn.Conv2d):
            key = module, tuple(arguments[0].shape)
            calls[key] += 1
            if key not in inputs:
                inputs[key] = torch.rand_like(arguments[0])

    handle = nn.modules.module.register_module_forward_hook(record)
    try:
        run()
    finally:
        handle.remove()
    seconds = min(_seconds(run) for _ in range(ROUNDS))
    alone = 0.0
    with torch.no_grad():
        for (module, shape), count in calls.items():
            features = inputs[module, shape]
            alone += count * min(_seconds(lambda: module(features)) for _ in range(ROUNDS))  # noqa: B023
    return {"seconds": seconds, "convolution_seconds": alone, "ratio": seconds / alone}


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
