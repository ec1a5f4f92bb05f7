"""softmax_fuse: the weighted sum of the exposures.

The kernels read uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 exposures as
they are, planar or channels last, and write the fused image in the same type and layout: integers
are rounded to the nearest. Sums are formed in float32, for float64 tensors in float64.

On a GPU the CUDA C++ kernels serve up to eight exposures, Triton serves the rest.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends, reference
from fastmef.ops import _cuda
from fastmef.ops._arrays import color_stack, require
from fastmef.ops._by_reference import Recompute
from fastmef.ops._library import register, triton_launcher
from fastmef.reference.fusion import tempered_logits

# The weights of more exposures do not fit into a thread's registers.
_MOST_BY_CUDA = 8

_launch = triton_launcher("fusion", "softmax_fuse")
_launch_backward = triton_launcher("fusion", "softmax_fuse_backward")


def _in_double(logits: Tensor, exposures: Tensor) -> bool:
    return torch.float64 in (logits.dtype, exposures.dtype)


def _prepare(logits: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """For kernels that know neither temperature nor validity."""
    if temperature == 1 and valid is None:
        return logits
    if logits.dtype != torch.float64:
        logits = logits.float()
    return tempered_logits(logits, temperature, valid)


def _chain(by_logits: Tensor, temperature: float) -> Tensor:
    """From the gradient by prepared logits to that by the logits."""
    return by_logits if temperature == 1 else by_logits.div_(temperature)


def _require_stacks(logits: Tensor, exposures: Tensor) -> None:
    require(
        exposures.ndim == 5
        and exposures.numel() > 0
        and logits.shape == exposures.shape[:2] + exposures.shape[3:],
        f"logits {tuple(logits.shape)} do not fit exposures {tuple(exposures.shape)}",
    )


def _require_valid(valid: Tensor | None, logits: Tensor) -> None:
    fits = valid is None or (valid.dtype == torch.bool and valid.shape == logits.shape)
    require(fits, "valid is boolean and of the logits' shape")


def _require_upstream(
    by_fused: Tensor | None, by_weights: Tensor | None, logits: Tensor, exposures: Tensor
) -> None:
    require(by_weights is None or by_weights.shape == logits.shape, "by_weights does not fit")
    require(
        by_fused is None or by_fused.shape == exposures.shape[:1] + exposures.shape[2:],
        "by_fused does not fit",
    )


def _fused_like(exposures: Tensor) -> Tensor:
    batch, _, channels, height, width = exposures.shape
    if channels > 1 and exposures.stride(2) == 1 and exposures.stride(4) == channels:
        return exposures.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return exposures.new_empty((batch, channels, height, width))


def _backend(logits: Tensor, exposures: Tensor) -> str:
    few = logits.shape[1] <= _MOST_BY_CUDA
    return backends.choose("softmax_fuse", logits, exposures, cuda=few)


def _fuse_outputs(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return _fused_like(exposures), logits.new_empty(logits.shape if want_weights else (0,))


def _fuse_cpu(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _require_stacks(logits, exposures)
    fused, weights = _fuse_outputs(logits, exposures, want_weights)
    logits = _prepare(logits, temperature, valid)
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


def _fuse_triton(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    fused, weights = _fuse_outputs(logits, exposures, want_weights)
    logits = _prepare(logits, temperature, valid)
    _launch(logits, exposures, fused, weights if want_weights else None)
    return fused, weights


def _fuse_cuda(
    logits: Tensor,
    exposures: Tensor,
    want_weights: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _require_stacks(logits, exposures)
    _require_valid(valid, logits)
    fused, weights = _fuse_outputs(logits, exposures, want_weights)
    backends.CUDA_MODULE.softmax_fuse(  # type: ignore[union-attr]
        _cuda.place("softmax_fuse", logits, exposures, valid),
        tuple(exposures.shape),
        temperature,
        color_stack(logits.unsqueeze(2)),
        color_stack(None if valid is None else valid.view(torch.uint8).unsqueeze(2)),
        color_stack(exposures),
        color_stack(fused.unsqueeze(1)),
        color_stack(weights.unsqueeze(2) if want_weights else None),
    )
    return fused, weights


def _fuse_fits(logits: Tensor, exposures: Tensor, *others: Any, **options: Any) -> bool:
    usable = _backend(logits, exposures) == backends.CUDA
    return usable and _cuda.has_kernels(logits.device.index)


def _gradients(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
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
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _require_stacks(logits, exposures)
    _require_upstream(by_fused, by_weights, logits, exposures)
    by_logits, by_exposures = _gradients(
        by_fused, by_weights, logits, exposures, for_logits, for_exposures
    )
    if by_fused is None:
        by_exposures.zero_()
    logits = _prepare(logits, temperature, valid)
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
    return _chain(by_logits, temperature), by_exposures


def _backward_triton(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    by_logits, by_exposures = _gradients(
        by_fused, by_weights, logits, exposures, for_logits, for_exposures
    )
    if by_fused is None:
        by_exposures.zero_()
    logits = _prepare(logits, temperature, valid)
    _launch_backward(
        by_fused,
        by_weights,
        logits,
        exposures,
        by_logits if for_logits else None,
        by_exposures if for_exposures and by_fused is not None else None,
    )
    return _chain(by_logits, temperature), by_exposures


def _backward_cuda(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    for_logits: bool,
    for_exposures: bool,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _require_stacks(logits, exposures)
    _require_upstream(by_fused, by_weights, logits, exposures)
    _require_valid(valid, logits)
    by_logits, by_exposures = _gradients(
        by_fused, by_weights, logits, exposures, for_logits, for_exposures
    )
    if by_fused is None:
        by_exposures.zero_()
    backends.CUDA_MODULE.softmax_fuse_backward(  # type: ignore[union-attr]
        _cuda.place("softmax_fuse_backward", logits, exposures, valid, by_fused, by_weights),
        tuple(exposures.shape),
        temperature,
        color_stack(logits.unsqueeze(2)),
        color_stack(None if valid is None else valid.view(torch.uint8).unsqueeze(2)),
        color_stack(exposures),
        color_stack(None if by_fused is None else by_fused.unsqueeze(1)),
        color_stack(None if by_weights is None else by_weights.unsqueeze(2)),
        color_stack(by_logits.unsqueeze(2) if for_logits else None),
        color_stack(by_exposures if for_exposures and by_fused is not None else None),
    )
    return by_logits, by_exposures


def _backward_fits(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    *others: Any,
    **options: Any,
) -> bool:
    return _fuse_fits(logits, exposures)


_fuse = register(
    "softmax_fuse(Tensor logits, Tensor exposures, bool want_weights, float temperature=1.0, "
    "Tensor? valid=None) -> (Tensor, Tensor)",
    _fuse_outputs,
    cpp=_fuse_cpu,
    triton=_fuse_triton,
    cuda=_fuse_cuda,
    cuda_fits=_fuse_fits,
)
_fuse_backward = register(
    "softmax_fuse_backward(Tensor? by_fused, Tensor? by_weights, Tensor logits, Tensor exposures, "
    "bool for_logits, bool for_exposures, float temperature=1.0, Tensor? valid=None) "
    "-> (Tensor, Tensor)",
    _gradients,
    cpp=_backward_cpu,
    triton=_backward_triton,
    cuda=_backward_cuda,
    cuda_fits=_backward_fits,
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
        ctx.temperature = temperature
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
            by_weights,
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
