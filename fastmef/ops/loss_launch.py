"""Launches of the CUDA C++ loss that are prepared once and repeated by eager calls.

The host takes longer than the GPU for small images. What depends on shapes, strides, dtypes and
options only is therefore computed once: the checks of the arguments, the choice of the backend, and
the arguments of the launch. Calls that something watches go through the registered operation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import LaunchError, Operation
from fastmef.ops.common.transforms import called_eagerly, nothing_watches, once_differentiable
from fastmef.ops.loss_kernels import CudaLaunch, gradient_scale
from fastmef.ops.scale_gradient import scaled
from fastmef.reference.loss import LossOptions

_MOST_LAUNCHES = 256
_PREPARED: dict[Hashable, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {}


class PreparedLoss(torch.autograd.Function):
    """Compute the loss and its gradient by a prepared launch, like ``Loss``."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, exposures: Tensor, launch: Any) -> Tensor:
        value, gradient = launch(source, exposures)
        ctx.save_for_backward(gradient)
        ctx.divisor = gradient_scale(source, None)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return scaled(backends.CUDA, gradient, grad_output, ctx.divisor), None, None


_apply = super(torch.autograd.Function, PreparedLoss).apply  # without binding arguments to names


def _key(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    options: LossOptions,
    scales: Sequence[float],
) -> Hashable:
    """Return all that a prepared launch depends on, or ``None`` if this call cannot use one."""
    if not nothing_watches() or backends.FAILED or not isinstance(options.gamma, str):
        return None
    records = torch.is_grad_enabled()
    try:
        device = source.device
        if records and exposures.requires_grad or backends.CUDA not in backends.usable_on(device):
            return None
        return (
            operation.name,
            type(source),
            type(exposures),
            source.layout,
            exposures.layout,
            source.shape,
            exposures.shape,
            source.stride(),
            exposures.stride(),
            source.dtype,
            exposures.dtype,
            device,
            exposures.device,
            source.is_neg(),
            exposures.is_neg(),
            records and source.requires_grad,
            options,
            scales,
        )
    except (AttributeError, RuntimeError):  # no tensor, or one without strides
        return None


def repeat(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor | None:
    """Return the loss if a launch is prepared for such arguments, which need no checks then."""
    key = _key(operation, source, exposures, options, scales)
    launch = None if key is None else _PREPARED.get(key)
    if launch is None:
        return None
    try:
        return _apply(source, exposures, launch)
    except LaunchError:
        return None


def prepare(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor | None:
    """Prepare the launch for checked arguments that a CUDA C++ kernel handles, and repeat it."""
    key = _key(operation, source, exposures, options, scales)
    if key is None or not called_eagerly((source, exposures)):
        return None
    with_gradient = torch.is_grad_enabled() and source.requires_grad
    if len(_PREPARED) >= _MOST_LAUNCHES:
        _PREPARED.clear()
    given = source, exposures, options, scales, with_gradient
    try:
        launch = operation.start(backends.CUDA, CudaLaunch, *given)
    except LaunchError:
        return None
    _PREPARED[key] = partial(operation.start, backends.CUDA, launch)
    return repeat(operation, source, exposures, options, scales)
