"""softmax_fuse: the weighted sum of the exposures.

The kernels read uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 exposures as
they are, planar or channels last, and write the fused image in the same type and layout: integers
are rounded to the nearest. Sums are formed in float32, for float64 tensors in float64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops._arrays import color_stack
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register, triton_launcher

_launch = triton_launcher("fusion", "softmax_fuse")
_launch_backward = triton_launcher("fusion", "softmax_fuse_backward")


def _in_double(logits: Tensor, exposures: Tensor) -> bool:
    return torch.float64 in (logits.dtype, exposures.dtype)


def _fused_like(exposures: Tensor) -> Tensor:
    batch, _, channels, height, width = exposures.shape
    if channels > 1 and exposures.stride(2) == 1 and exposures.stride(4) == channels:
        return exposures.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return exposures.new_empty((batch, channels, height, width))


def _fuse_outputs(logits: Tensor, exposures: Tensor, want_weights: bool) -> tuple[Tensor, Tensor]:
    return _fused_like(exposures), logits.new_empty(logits.shape if want_weights else (0,))


def _fuse_cpu(logits: Tensor, exposures: Tensor, want_weights: bool) -> tuple[Tensor, Tensor]:
    fused, weights = _fuse_outputs(logits, exposures, want_weights)
    backends.CPU.softmax_fuse(  # type: ignore[union-attr]
        _in_double(logits, exposures),
        tuple(exposures.shape),
        color_stack(logits.unsqueeze(2)),
        color_stack(exposures),
        color_stack(fused.unsqueeze(1)),
        color_stack(weights.unsqueeze(2) if want_weights else None),
        torch.get_num_threads(),
    )
    return fused, weights


def _fuse_triton(logits: Tensor, exposures: Tensor, want_weights: bool) -> tuple[Tensor, Tensor]:
    fused, weights = _fuse_outputs(logits, exposures, want_weights)
    _launch(logits, exposures, fused, weights if want_weights else None)
    return fused, weights


def _gradients(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
) -> tuple[Tensor, Tensor]:
    return (
        logits.new_empty(logits.shape if for_logits else (0,)),
        exposures.new_empty(exposures.shape if for_exposures else (0,)),
    )


def _backward_cpu(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
) -> tuple[Tensor, Tensor]:
    by_logits, by_exposures = _gradients(
        by_fused, by_weights, logits, exposures, for_logits, for_exposures
    )
    if by_fused is None:
        by_exposures.zero_()
    backends.CPU.softmax_fuse_backward(  # type: ignore[union-attr]
        _in_double(logits, exposures),
        tuple(exposures.shape),
        color_stack(logits.unsqueeze(2)),
        color_stack(exposures),
        color_stack(None if by_fused is None else by_fused.unsqueeze(1)),
        color_stack(None if by_weights is None else by_weights.unsqueeze(2)),
        color_stack(by_logits.unsqueeze(2) if for_logits else None),
        color_stack(by_exposures if for_exposures and by_fused is not None else None),
        torch.get_num_threads(),
    )
    return by_logits, by_exposures


def _backward_triton(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
) -> tuple[Tensor, Tensor]:
    by_logits, by_exposures = _gradients(
        by_fused, by_weights, logits, exposures, for_logits, for_exposures
    )
    if by_fused is None:
        by_exposures.zero_()
    _launch_backward(
        by_fused,
        by_weights,
        logits,
        exposures,
        by_logits if for_logits else None,
        by_exposures if for_exposures and by_fused is not None else None,
    )
    return by_logits, by_exposures


_fuse = register(
    "softmax_fuse(Tensor logits, Tensor exposures, bool want_weights) -> (Tensor, Tensor)",
    _fuse_outputs,
    cpp=_fuse_cpu,
    triton=_fuse_triton,
)
_fuse_backward = register(
    "softmax_fuse_backward(Tensor? by_fused, Tensor? by_weights, Tensor logits, Tensor exposures, "
    "bool for_logits, bool for_exposures) -> (Tensor, Tensor)",
    _gradients,
    cpp=_backward_cpu,
    triton=_backward_triton,
)


class SoftmaxFuse(torch.autograd.Function):
    """Saves the inputs; the backward pass forms the weights again."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, exposures: Tensor, want_weights: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, exposures)
        fused, weights = _fuse(logits, exposures, want_weights)
        constant = [] if want_weights else [weights]
        ctx.mark_non_differentiable(*constant, *([] if fused.is_floating_point() else [fused]))
        return fused, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_fused: Tensor | None, by_weights: Tensor | None) -> Any:
        logits, exposures = ctx.saved_tensors
        for_logits, for_exposures = ctx.needs_input_grad[:2]
        by_logits, by_exposures = _fuse_backward(
            by_fused, by_weights, logits, exposures, for_logits, for_exposures
        )
        return by_logits if for_logits else None, by_exposures if for_exposures else None, None


def softmax_fuse(
    logits: Tensor, exposures: Tensor, want_weights: bool = True
) -> tuple[Tensor, Tensor]:
    """Fused image and weights; the weights are empty if they are not wanted."""
    if backends.choose("softmax_fuse", logits, exposures) != backends.REFERENCE:
        return SoftmaxFuse.apply(logits, exposures, want_weights)
    if logits.dtype == exposures.dtype:
        return Recompute.apply(reference.softmax_fuse, logits, exposures)
    return reference.softmax_fuse(logits, exposures)
