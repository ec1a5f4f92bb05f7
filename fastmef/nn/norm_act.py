"""Run batch normalisation, ReLU and the steps after them in one kernel."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastmef import backends
from fastmef.ops import norm_act as op


def is_fused(features: Tensor, norm: nn.Module) -> bool:
    """Return whether the kernels run ``norm``; they need ``features`` that are channels last.

    On a CPU the kernels run in training only, where they save three passes over the features; in
    inference the normalisation is folded into convolutions, exported or compiled. Subclasses of
    PyTorch's modules may compute something else, so these are called themselves.
    """
    if type(norm) not in (nn.BatchNorm2d, nn.SyncBatchNorm) or features.ndim != 4:
        return False
    state: Any = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    backend = op.NORM_ACT.backend(features, *state)
    if backend == backends.REFERENCE or (backend == backends.CPP and not _trains_eagerly(norm)):
        return False
    # For a single value the module itself reports that there is no variance.
    values = features.numel() // max(1, features.shape[1])
    single = values <= 1 and type(norm) is nn.BatchNorm2d
    return not single and features.is_contiguous(memory_format=torch.channels_last)


def _trains_eagerly(norm: Any) -> bool:
    """Return whether gradients are recorded outside of ``torch.compile``."""
    eager = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return eager and norm.training and type(norm) is nn.BatchNorm2d


def fused_steps(features: Tensor, then: str, keep: bool) -> str:
    """Return the first steps of ``then`` that the kernels also compute, ``""`` for none.

    The kernels return the activation for a pool only.
    """
    on_cpu = op.NORM_ACT.backend(features) == backends.CPP
    first = then.split(" ")[0]
    if first == "pool" or (not keep and first in ("bilinear", *[op.BORDER] * on_cpu)):
        return then if on_cpu else first
    return ""


def fused_norm_act(features: Tensor, norm: Any, then: str, keep: bool) -> tuple[Tensor, Tensor]:
    """Return the activation and the result of ``then``; see :mod:`fastmef.ops.norm_act`.

    The running statistics and the counter of ``norm`` are updated as in the module itself.
    """
    affine = (norm.weight, norm.bias)
    running = (norm.running_mean, norm.running_var)
    if not norm.training and norm.running_mean is not None:
        return op.norm_act(features, *affine, *running, None, norm.eps, then, keep)
    momentum = 0.0
    if norm.training and norm.track_running_stats:
        momentum = _next_momentum(norm)
    else:
        running = (None, None)
    group = _group_of(norm)
    with torch.no_grad():
        own = features.detach()
        if group is None:
            statistics = op.statistics(own, *running, momentum)
        else:
            statistics = op.shared_statistics(own, *running, momentum, group)
    mean, variance, count = statistics.unbind(0)
    return op.norm_act(features, *affine, mean, variance, count, norm.eps, then, keep, group)


def _next_momentum(norm: Any) -> float:
    """Count the batch, and return its weight in the running statistics."""
    tracked = norm.num_batches_tracked
    if tracked is not None:
        tracked.add_(1)
    if norm.momentum is not None:
        return norm.momentum
    # Without a momentum the module takes the plain mean over all batches so far.
    return 0.0 if tracked is None else 1.0 / float(tracked)


def _group_of(norm: Any) -> Any:
    """Return the processes that share batch statistics, or ``None`` if each has its own."""
    if type(norm) is not nn.SyncBatchNorm or not norm.training:
        return None
    if not (dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None
