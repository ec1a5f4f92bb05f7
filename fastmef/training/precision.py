"""Whether bfloat16 pays on this machine: measured, not assumed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fastmef.nn.network import FusionNet
from fastmef.nn.objective import ObjectiveOutput

# Below this gain the rounding is not worth it.
MINIMUM_SPEEDUP = 1.1
# Loss of the first step against float32's.
MAXIMUM_DISAGREEMENT = 0.01


def choose_precision(
    network: FusionNet,
    objective: Callable[[FusionNet, Tensor, str], ObjectiveOutput],
    batch: Tensor,
) -> str:
    """``"bfloat16"`` if a training step is faster in it and the loss agrees, else ``"float32"``."""
    seconds: dict[str, float] = {}
    losses: dict[str, float] = {}
    for precision in ("float32", "bfloat16"):
        probe = copy.deepcopy(network)
        durations = []
        for _ in range(3):
            start = time.perf_counter()
            loss = objective(probe, batch, precision).total
            loss.backward()
            durations.append(time.perf_counter() - start)
            losses.setdefault(precision, float(loss.detach()))
        seconds[precision] = min(durations)
    faster = seconds["float32"] > MINIMUM_SPEEDUP * seconds["bfloat16"]
    gap = abs(losses["bfloat16"] - losses["float32"])
    agrees = gap <= MAXIMUM_DISAGREEMENT * abs(losses["float32"])
    return "bfloat16" if faster and agrees else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
