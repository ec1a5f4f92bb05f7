"""softmax_fuse: the weighted sum of the exposures.

The kernels read uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 exposures
without a conversion, planar or channels last, and write the fused image in the same dtype and
layout, integers rounded to the nearest. Sums are formed in float32, for float64 tensors in float64.

On a GPU the CUDA C++ kernels handle up to eight exposures, Triton handles more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from fastmef import reference
from fastmef.ops import fusion_kernels as kernels
from fastmef.ops.common.autograd import gradients, recompute
from fastmef.ops.common.cuda import MOST_EXPOSURES
from fastmef.ops.common.operation import GPU_STORED, STORED, LaunchError, Operation, Support
from fastmef.ops.common.tensors import fused_like, gradient_like, require
from fastmef.ops.common.transforms import Function, once_differentiable

SOFTMAX_FUSE = Operation(
    "softmax_fuse",
    in_transforms=True,
    cpp=Support(STORED),
    cuda=Support(GPU_STORED, lambda logits, exposures: logits.shape[1] <= MOST_EXPOSURES),
    triton=Support(GPU_STORED),
)


def _new_outputs(
    logits: Tensor, exposures: Tensor, want_weights: bool, *others: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """Allocate the fused image and the weights, which are empty if not wanted."""
    return fused_like(exposures), gradient_like(logits, want_weights)


def _new_gradients(
    grad_fused: Tensor | None,
    grad_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    *others: Any,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Allocate the gradients, which are empty if not wanted."""
    return gradient_like(logits, for_logits), gradient_like(exposures, for_exposures)


def forward_on(
    run: Callable[..., None],
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Allocate the outputs and fill them with the kernel ``run``."""
    inputs = kernels.Inputs(logits, exposures, temperature, valid)
    inputs.require_fit()
    fused, weights = _new_outputs(logits, exposures, want_weights)
    run(inputs, fused, weights if want_weights else None)
    return fused, weights


def backward_on(
    run: Callable[..., None],
    grad_fused: Tensor | None,
    grad_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Allocate the gradients and fill them with the kernel ``run``."""
    inputs = kernels.Inputs(logits, exposures, temperature, valid)
    inputs.require_fit()
    require(grad_weights is None or grad_weights.shape == logits.shape, "grad_weights does not fit")
    require(
        grad_fused is None or grad_fused.shape == exposures.shape[:1] + exposures.shape[2:],
        "grad_fused does not fit",
    )
    grad_logits = gradient_like(logits, for_logits)
    grad_exposures = gradient_like(exposures, for_exposures)
    if grad_fused is None:
        grad_exposures.zero_()
    run(
        inputs,
        grad_fused,
        grad_weights,
        grad_logits if for_logits else None,
        grad_exposures if for_exposures and grad_fused is not None else None,
    )
    return grad_logits, grad_exposures


_fuse = SOFTMAX_FUSE.register(
    "softmax_fuse(Tensor logits, Tensor exposures, bool want_weights, float temperature=1.0, "
    "Tensor? valid=None) -> (Tensor, Tensor)",
    _new_outputs,
    case=lambda logits, exposures, *others, **options: ((logits, exposures), {}),
    cpp=partial(forward_on, kernels.cpp_forward),
    cuda=partial(forward_on, kernels.cuda_forward),
    triton=partial(forward_on, kernels.triton_forward),
)
_fuse_backward = SOFTMAX_FUSE.register(
    "softmax_fuse_backward(Tensor? grad_fused, Tensor? grad_weights, Tensor logits, "
    "Tensor exposures, bool for_logits, bool for_exposures, float temperature=1.0, "
    "Tensor? valid=None) -> (Tensor, Tensor)",
    _new_gradients,
    case=lambda fused, weights, logits, exposures, *others, **options: ((logits, exposures), {}),
    cpp=partial(backward_on, kernels.cpp_backward),
    cuda=partial(backward_on, kernels.cuda_backward),
    triton=partial(backward_on, kernels.triton_backward),
)


class SoftmaxFuse(Function):
    """Save the inputs and recompute the weights in the backward pass.

    The reference ``compute`` is used if no kernel can be started.
    """

    @staticmethod
    def forward(
        compute: Callable[..., tuple[Tensor, Tensor]],
        logits: Tensor,
        exposures: Tensor,
        want_weights: bool,
        temperature: float,
        valid: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        return _fuse(logits, exposures, want_weights, temperature, valid)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        ctx.compute, logits, exposures, ctx.want_weights, ctx.temperature, valid = inputs
        fused, weights = outputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, exposures, valid)
        constant = [] if ctx.want_weights else [weights]
        ctx.mark_non_differentiable(*constant, *([] if fused.is_floating_point() else [fused]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fused: Tensor | None, grad_weights: Tensor | None) -> Any:
        logits, exposures, valid = ctx.saved_tensors
        _, for_logits, for_exposures, *_ = ctx.needs_input_grad
        # Compiled graphs may pass zeros for outputs without a gradient.
        grad_weights = grad_weights if ctx.want_weights else None
        try:
            grad_logits, grad_exposures = _fuse_backward(
                grad_fused,
                grad_weights,
                logits,
                exposures,
                for_logits,
                for_exposures,
                ctx.temperature,
                valid,
            )
        except LaunchError:
            grad_logits, grad_exposures = _reference_backward(ctx, grad_fused, grad_weights)
        grads = grad_logits if for_logits else None, grad_exposures if for_exposures else None
        return None, *grads, None, None, None


def _reference_backward(
    ctx: Any, grad_fused: Tensor | None, grad_weights: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Return the gradients w.r.t. logits and exposures from the reference."""
    logits, exposures, _ = ctx.saved_tensors
    given = grad_fused, grad_weights

    def compute(logits: Tensor, exposures: Tensor) -> tuple[Tensor, ...]:
        outputs = ctx.compute(logits, exposures)
        return tuple(x for x, grad in zip(outputs, given, strict=True) if grad is not None)

    grad_outputs = tuple(x for x in given if x is not None)
    return gradients(compute, (logits, exposures), ctx.needs_input_grad[1:3], grad_outputs)


def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool = True,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the fused image and the weights; the weights are empty if they are not wanted."""
    compute = partial(reference.softmax_fuse, temperature=temperature, valid=valid)
    if SOFTMAX_FUSE.has_kernels_for(logits, exposures):
        try:
            return SoftmaxFuse.apply(compute, logits, exposures, want_weights, temperature, valid)
        except LaunchError:
            pass
    if logits.dtype == exposures.dtype:
        return recompute(compute, logits, exposures)
    return compute(logits, exposures)
