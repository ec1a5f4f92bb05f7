"""Recompute activations in the backward pass instead of keeping them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from fastmef.nn.blocks import ConvGroup
from fastmef.nn.exposure_blocks import ExposureGroup


def recompute_activations(network: nn.Module) -> None:
    """Keep only the input of each group of convolutions for the backward pass.

    The other activations are recomputed there. Running statistics count every batch once.
    """
    for group in network.modules():
        if isinstance(group, (ConvGroup, ExposureGroup)):
            plain = group.forward
            contexts = functools.partial(_contexts, group)
            group.forward = functools.partial(  # type: ignore[method-assign]
                checkpoint, plain, use_reentrant=False, context_fn=contexts
            )


def _contexts(group: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of the first and of the second computation."""
    return nullcontext(), _untracked(group)


@contextmanager
def _untracked(group: nn.Module) -> Iterator[None]:
    """Do not change the running statistics of a group in this context."""
    norms: list[Any] = [module for module in group.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
