"""Launches of the CUDA C++ loss that are prepared once and repeated by eager calls.

The host takes longer than the GPU for small images. What depends on shapes, strides, dtypes and
options only is therefore computed once: the checks of the arguments, the choice of the backend, and
the arguments of the launch. Calls that something watches go through the registered operation.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import LaunchError, Operation
from fastmef.ops.common.transforms import called_eagerly, nothing_watches, once_differentiable
from fastmef.ops.loss_kernels import CudaLaunch
from fastmef.ops.scale_gradient import SCALE_GRADIENT, graph_is_retained, scaled
from fastmef.reference.loss import LossOptions

_MOST_LAUNCHES = 256


class PreparedLoss(torch.autograd.Function):
    """Compute the loss and its gradient by a prepared launch, like ``Loss``."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, exposures: Tensor, launch: CudaLaunch) -> Tensor:
        value, gradient = launch(source, exposures)
        ctx.save_for_backward(gradient)
        ctx.launch = launch
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        launch = ctx.launch
        if not graph_is_retained() and called_eagerly((grad_output,)) and not backends.FAILED:
            try:
                SCALE_GRADIENT.start(backends.CUDA, launch.scale, gradient, grad_output)
            except LaunchError:
                pass
            else:
                return gradient, None, None
        return scaled(backends.CUDA, gradient, grad_output, launch.gradient_scale), None, None


_apply = super(torch.autograd.Function, PreparedLoss).apply  # without binding arguments to names
_PREPARED: dict[Hashable, CudaLaunch] = {}


def _key(operation: Operation, source: Tensor, exposures: Tensor, *options: Any) -> Hashable:
    """Return all that a prepared launch depends on. Tensors without strides raise an error."""
    records = torch.is_grad_enabled()
    return (
        operation,
        backends.CUDA_MODULE,
        backends.WHY_NO_CUDA,
        type(source),
        type(exposures),
        source.shape,
        exposures.shape,
        source.stride(),
        exposures.stride(),
        source.dtype,
        exposures.dtype,
        source.device,
        exposures.device,
        source.is_neg(),
        exposures.is_neg(),
        records and source.requires_grad,
        records and exposures.requires_grad,
        options,
    )


def repeat(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor | None:
    """Return the loss if a launch is prepared for such arguments, which need no checks then."""
    if not _PREPARED or backends.FAILED or not nothing_watches():
        return None
    try:
        launch = _PREPARED.get(_key(operation, source, exposures, options, scales))
    except (AttributeError, RuntimeError, TypeError):  # no tensor, or one without strides
        return None
    if launch is None:
        return None
    try:
        return operation.start(backends.CUDA, _apply, source, exposures, launch)
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
    if not called_eagerly((source, exposures)):
        return None
    with_gradient = torch.is_grad_enabled() and source.requires_grad
    given = source, exposures, options, scales
    try:
        launch = operation.start(backends.CUDA, CudaLaunch, *given, with_gradient)
    except LaunchError:
        return None
    if len(_PREPARED) >= _MOST_LAUNCHES:
        _PREPARED.clear()
    _PREPARED[_key(operation, *given)] = launch
    return repeat(operation, *given)
