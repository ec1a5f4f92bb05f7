"""Autograd functions around the reference, and helpers that all autograd functions need.

:func:`recompute` and :func:`gradient_in_forward` run plain PyTorch functions. They differ in what
they save. Neither is differentiable twice, except under transforms of ``torch.func``, which record
the plain function themselves. Half precision is computed in float32: maps and gradients come back
in the input's dtype, scalars in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends

Outputs = Tensor | tuple[Tensor, ...]


def detach_if_no_grad(tensor: Tensor) -> Tensor:
    """Detach the tensor when grad mode is off.

    The forward pass of an ``autograd.Function`` cannot see ``torch.no_grad()``: without this it
    would compute a gradient that is never used.
    """
    return tensor if torch.is_grad_enabled() else tensor.detach()


def _to_single(x: Tensor | None) -> Tensor | None:
    """Convert float16 and bfloat16 to float32."""
    is_half = x is not None and x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if is_half else x  # type: ignore[union-attr]


def _call(function: Callable[..., Outputs], *inputs: Tensor | None) -> Outputs:
    """Call ``function`` in at least float32 and return maps in the dtype of the first input."""
    outputs = function(*map(_to_single, inputs))
    dtype = next(x.dtype for x in inputs if x is not None)
    if isinstance(outputs, tuple):
        return tuple(x.to(dtype) for x in outputs)
    return outputs.to(dtype) if outputs.ndim else outputs


def _with_grad(
    function: Callable[..., Outputs], inputs: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> tuple[Outputs, list[Tensor]]:
    """Call ``function`` under autograd; return the outputs and the inputs that need a gradient."""
    fresh = tuple(
        None if x is None else x.detach().requires_grad_(need)
        for x, need in zip(inputs, needed, strict=True)
    )
    with torch.enable_grad():
        outputs = function(*fresh)
    return outputs, [x for x, need in zip(fresh, needed, strict=True) if need and x is not None]


def _pad_with_none(gradients: Any, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Return one entry for each input: the next gradient if it is needed, else ``None``."""
    remaining = iter(gradients)
    return tuple(next(remaining) if need else None for need in needed)


def gradients(
    function: Callable[..., Outputs],
    inputs: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
    grad_outputs: tuple[Tensor, ...],
) -> tuple[Tensor | None, ...]:
    """Recompute ``function`` under autograd and return the gradients w.r.t. the needed inputs."""
    outputs, wanted = _with_grad(function, inputs, needed)
    return _pad_with_none(torch.autograd.grad(outputs, wanted, grad_outputs), needed)


def reference_gradients(
    function: Callable[..., Outputs],
    inputs: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
    grad_outputs: tuple[Tensor, ...],
) -> tuple[Tensor | None, ...]:
    """Return :func:`gradients` of a reference function; half precision is computed in float32."""
    return gradients(partial(_call, function), inputs, needed, grad_outputs)


class Recompute(torch.autograd.Function):
    """Save the inputs only and recompute the function in the backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Outputs], *inputs: Tensor | None) -> Outputs:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return _call(function, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        needed = ctx.needs_input_grad[1:]
        return None, *reference_gradients(ctx.function, ctx.saved_tensors, needed, grad_outputs)


class GradientInForward(torch.autograd.Function):
    """Compute the gradient of a scalar with its value, and scale it in the backward pass.

    Until then a gradient w.r.t. half precision inputs is kept in float32, where the weight of one
    pixel in a mean does not underflow.
    """

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        needed = ctx.needs_input_grad[1:]
        if not any(needed):
            return _call(function, *inputs)  # type: ignore[return-value]
        inputs_single = tuple(map(_to_single, inputs))
        value, wanted = _with_grad(partial(_call, function), inputs_single, needed)
        ctx.save_for_backward(*torch.autograd.grad(value, wanted))
        ctx.dtypes = [
            x.dtype for x, need in zip(inputs, needed, strict=True) if x is not None and need
        ]
        return value.detach()  # type: ignore[union-attr]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        scaled = [
            (grad_output * gradient).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return None, *_pad_with_none(scaled, ctx.needs_input_grad[1:])


def recompute(function: Callable[..., Outputs], *inputs: Tensor | None) -> Any:
    """Run a function and save only its inputs; see :class:`Recompute`."""
    if backends.transforms_active():
        return _call(function, *inputs)
    return Recompute.apply(function, *inputs)


def gradient_in_forward(function: Callable[..., Tensor], *inputs: Tensor | None) -> Any:
    """Run a function and compute its gradient at once; see :class:`GradientInForward`."""
    if backends.transforms_active():
        return _call(function, *inputs)
    return GradientInForward.apply(function, *inputs)
