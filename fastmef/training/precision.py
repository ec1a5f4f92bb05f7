"""Measure whether training steps are faster in bfloat16 on this machine.

Steps in both precisions alternate, so that a machine that slows down slows both, and the median
step decides. On a GPU, events on its stream measure the time, because the host does not wait.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastmef.nn.network import FusionNet
from fastmef.nn.objective import ObjectiveOutput

# Rounds of one step in each precision, after a first one that loads kernels and chooses algorithms.
ROUNDS = 5
# With less gain, bfloat16 is not worth its rounding errors.
MINIMUM_SPEEDUP = 1.1
# Largest relative difference of the loss of the first step from that in float32.
MAXIMUM_DISAGREEMENT = 0.01


def choose_precision(
    network: FusionNet,
    objective: Callable[[FusionNet, Tensor, str], ObjectiveOutput],
    batch: Tensor,
) -> str:
    """Return ``"bfloat16"`` if the median step is faster in it and the loss agrees.

    Otherwise return ``"float32"``. The network is not changed.
    """
    probes = {precision: copy.deepcopy(network) for precision in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {precision: [] for precision in probes}
    losses: dict[str, float] = {}
    for _ in range(1 + ROUNDS):
        for precision, probe in probes.items():
            step = partial(_step, objective, probe, batch, precision)
            duration, loss = timed(step, batch.device)
            seconds[precision].append(duration)
            losses.setdefault(precision, float(loss))
    medians = {precision: statistics.median(found[1:]) for precision, found in seconds.items()}
    faster = medians["float32"] > MINIMUM_SPEEDUP * medians["bfloat16"]
    gap = abs(losses["bfloat16"] - losses["float32"])
    agrees = gap <= MAXIMUM_DISAGREEMENT * abs(losses["float32"])
    return "bfloat16" if faster and agrees else "float32"


def _step(
    objective: Callable[[FusionNet, Tensor, str], ObjectiveOutput],
    network: FusionNet,
    batch: Tensor,
    precision: str,
) -> Tensor:
    """Run forward and backward pass; return the loss."""
    loss = objective(network, batch, precision).total
    loss.backward()
    return loss.detach()


def timed(function: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Return the seconds that the device needs for a call, and its result."""
    if device.type != "cuda":
        start = time.perf_counter()
        result = function()
        return time.perf_counter() - start, result
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    result = function()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1000, result


def autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
