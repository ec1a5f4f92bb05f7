"""softmax_fuse: the weighted sum of the exposures.

The kernels read uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 exposures as
they are, planar or channels last, and write the fused image in the same type and layout: integers
are rounded to the nearest. Sums are formed in float32, for float64 tensors in float64.

On a GPU the CUDA C++ kernels serve up to eight exposures, Triton serves the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops import _cuda, _fusion_kernels
from fastmef.ops._arrays import fused_like, gradient_like, require
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register


def _outputs_like(
    logits: Tensor, exposures: Tensor, want_weights: bool, *others: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    return fused_like(exposures), gradient_like(logits, want_weights)


def _gradients_like(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    *others: Any,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    return gradient_like(logits, for_logits), gradient_like(exposures, for_exposures)


def _fuse_by(
    run: Callable[..., None],
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    inputs = _fusion_kernels.Inputs(logits, exposures, temperature, valid)
    inputs.require_fit()
    fused, weights = _outputs_like(logits, exposures, want_weights)
    run(inputs, fused, weights if want_weights else None)
    return fused, weights


def _backward_by(
    run: Callable[..., None],
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    inputs = _fusion_kernels.Inputs(logits, exposures, temperature, valid)
    inputs.require_fit()
    require(by_weights is None or by_weights.shape == logits.shape, "by_weights does not fit")
    require(
        by_fused is None or by_fused.shape == exposures.shape[:1] + exposures.shape[2:],
        "by_fused does not fit",
    )
    by_logits = gradient_like(logits, for_logits)
    by_exposures = gradient_like(exposures, for_exposures)
    if by_fused is None:
        by_exposures.zero_()
    run(
        inputs,
        by_fused,
        by_weights,
        by_logits if for_logits else None,
        by_exposures if for_exposures and by_fused is not None else None,
    )
    return by_logits, by_exposures


# The kernels that no CPU tensor reaches through the dispatcher; emulated ones are called by name.
_fuse_cuda = partial(_fuse_by, _fusion_kernels.cuda_forward)
_backward_cuda = partial(_backward_by, _fusion_kernels.cuda_backward)


def _backend(logits: Tensor, exposures: Tensor) -> str:
    few = logits.shape[1] <= _cuda.MOST_EXPOSURES
    return backends.choose("softmax_fuse", logits, exposures, cuda=few)


def _fuse_fits(logits: Tensor, exposures: Tensor, *others: Any, **options: Any) -> bool:
    usable = _backend(logits, exposures) == backends.CUDA
    return usable and _cuda.has_kernels(logits.device.index)


def _gradients_fit(
    by_fused: Tensor | None, by_weights: Tensor | None, *others: Any, **options: Any
) -> bool:
    return _fuse_fits(*others, **options)


_fuse = register(
    "softmax_fuse(Tensor logits, Tensor exposures, bool want_weights, float temperature=1.0, "
    "Tensor? valid=None) -> (Tensor, Tensor)",
    _outputs_like,
    cpp=partial(_fuse_by, _fusion_kernels.cpp_forward),
    triton=partial(_fuse_by, _fusion_kernels.triton_forward),
    cuda=_fuse_cuda,
    cuda_fits=_fuse_fits,
)
_fuse_backward = register(
    "softmax_fuse_backward(Tensor? by_fused, Tensor? by_weights, Tensor logits, Tensor exposures, "
    "bool for_logits, bool for_exposures, float temperature=1.0, Tensor? valid=None) "
    "-> (Tensor, Tensor)",
    _gradients_like,
    cpp=partial(_backward_by, _fusion_kernels.cpp_backward),
    triton=partial(_backward_by, _fusion_kernels.triton_backward),
    cuda=_backward_cuda,
    cuda_fits=_gradients_fit,
)


class SoftmaxFuse(torch.autograd.Function):
    """Saves the inputs; the backward pass forms the weights again."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        exposures: Tensor,
        want_weights: bool,
        temperature: float,
        valid: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, exposures, valid)
        ctx.temperature, ctx.want_weights = temperature, want_weights
        fused, weights = _fuse(logits, exposures, want_weights, temperature, valid)
        constant = [] if want_weights else [weights]
        ctx.mark_non_differentiable(*constant, *([] if fused.is_floating_point() else [fused]))
        return fused, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_fused: Tensor | None, by_weights: Tensor | None) -> Any:
        logits, exposures, valid = ctx.saved_tensors
        for_logits, for_exposures = ctx.needs_input_grad[:2]
        by_logits, by_exposures = _fuse_backward(
            by_fused,
            # Compiled graphs may pass zeros for what has no gradient.
            by_weights if ctx.want_weights else None,
            logits,
            exposures,
            for_logits,
            for_exposures,
            ctx.temperature,
            valid,
        )
        gradients = by_logits if for_logits else None, by_exposures if for_exposures else None
        return *gradients, None, None, None


def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool = True,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Fused image and weights; the weights are empty if they are not wanted."""
    if _backend(logits, exposures) != backends.REFERENCE:
        return SoftmaxFuse.apply(logits, exposures, want_weights, temperature, valid)
    compute = partial(reference.softmax_fuse, temperature=temperature, valid=valid)
    if logits.dtype == exposures.dtype:
        return Recompute.apply(compute, logits, exposures)
    return compute(logits, exposures)
