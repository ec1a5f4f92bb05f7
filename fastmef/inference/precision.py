"""Decide by a probe whether a network for a fixed number of exposures runs in bfloat16."""

from __future__ import annotations

import copy
import functools
import time

import torch
from torch import Tensor

from fastmef import functional
from fastmef.inference.models import has_bfloat16
from fastmef.nn.network import FusionNet

# Processors with instructions for bfloat16 are 1.5 to 3 times faster with them; those without are
# several times slower. No processor lies in between, so a busy machine does not change the answer.
_LEAST_SPEEDUP = 1.25
# Largest differences of the fused base from that in float32, as shares of white: a quarter of a
# level of 255 on average, and two levels at any pixel.
_MEAN_DIFFERENCE, _LARGEST_DIFFERENCE = 0.25 / 255, 2 / 255
_LEAST_PIXELS = 3_000_000  # a probe takes longer than it saves on smaller images
_SIDE, _ROUNDS = 128, 3  # side of the images that are timed, and how often


def with_best_precision(network: FusionNet, base: Tensor, pixels: int) -> FusionNet:
    """Return the network, or a copy whose body is in bfloat16 if that is faster.

    The device must have instructions for bfloat16, a probe must be at least a quarter faster with
    them, and the fused base must agree. The probe is timed once in a process, so that the same
    photographs give the same result there.

    Args:
        network: a network in float32; in another dtype it is returned unchanged.
        base: the exposures at the base, sorted as the network gets them, ``(1, K, C, h, w)``.
        pixels: number of pixels of an exposure at full size.
    """
    device = base.device
    is_single = next(network.parameters()).dtype == torch.float32
    if not is_single or pixels < _LEAST_PIXELS or not has_bfloat16(device):
        return network
    rounded = _rounded(network)
    exposures = base.float().clamp(0, 1).expand(-1, -1, 3, -1, -1).contiguous()
    difference = (_fused(rounded, exposures) - _fused(network, exposures)).abs()
    agrees = difference.mean() <= _MEAN_DIFFERENCE and difference.max() <= _LARGEST_DIFFERENCE
    return rounded if agrees and is_faster(network, device) else network


def precision_of(network: FusionNet) -> str:
    """Return the dtype that the body of a network computes in, such as ``"bfloat16"``."""
    return str(next(network.body.parameters()).dtype).removeprefix("torch.")


@functools.lru_cache(maxsize=8)
def is_faster(network: FusionNet, device: torch.device) -> bool:
    """Return whether the network is clearly faster in bfloat16, by the best of three rounds."""
    shape = 1, network.config["exposures"], 3, _SIDE, _SIDE
    exposures = torch.linspace(0, 1, _SIDE, device=device).expand(shape).contiguous()
    candidates = network, _rounded(network)
    seconds = [float("inf")] * 2
    for _ in range(_ROUNDS):
        for index, candidate in enumerate(candidates):
            begun = time.perf_counter()
            # Reading a value waits for a GPU.
            float(candidate.logits(exposures).sum())
            seconds[index] = min(seconds[index], time.perf_counter() - begun)
    return seconds[0] >= _LEAST_SPEEDUP * seconds[1]


def _rounded(network: FusionNet) -> FusionNet:
    """Return a copy of the network whose body is in bfloat16."""
    rounded = copy.deepcopy(network)
    rounded.body.to(torch.bfloat16)
    return rounded


def _fused(network: FusionNet, exposures: Tensor) -> Tensor:
    """Return the plain weighted sum of ``(1, K, 3, h, w)``."""
    return functional.softmax_fuse(network.logits(exposures), exposures)
