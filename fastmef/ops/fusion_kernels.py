"""Call the kernels of softmax_fuse and its backward pass, which fill allocated tensors.

The forward functions fill the fused image and the weights, the backward functions the gradients
w.r.t. logits and exposures. A tensor that is not wanted is ``None``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common import cuda
from fastmef.ops.common.operation import triton_launcher
from fastmef.ops.common.tensors import color_stack, fused_stack, gray_stack, require
from fastmef.reference.fusion import tempered_logits

_launch = triton_launcher("fusion.forward", "softmax_fuse")
_launch_backward = triton_launcher("fusion.backward", "softmax_fuse_backward")


class Inputs(NamedTuple):
    """The inputs of both passes."""

    logits: Tensor
    exposures: Tensor
    temperature: float
    valid: Tensor | None

    @property
    def in_double(self) -> bool:
        """Return whether sums are formed in float64."""
        return torch.float64 in (self.logits.dtype, self.exposures.dtype)

    def require_fit(self) -> None:
        """Refuse inputs whose shapes do not fit each other."""
        logits, exposures, _, valid = self
        require(
            exposures.ndim == 5
            and exposures.numel() > 0
            and logits.shape == exposures.shape[:2] + exposures.shape[3:],
            f"logits {tuple(logits.shape)} do not fit exposures {tuple(exposures.shape)}",
        )
        require(
            valid is None or (valid.dtype == torch.bool and valid.shape == logits.shape),
            "valid must be boolean and have the shape of the logits",
        )


def _arguments(
    inputs: Inputs, fused: Tensor | None, weights: Tensor | None, *grad_inputs: Tensor | None
) -> list[Any]:
    """Return the arguments that the C++ and CUDA C++ kernels share, with the two gradients last."""
    logits, exposures, temperature, valid = inputs
    stacks = [
        gray_stack(logits),
        gray_stack(None if valid is None else valid.view(torch.uint8)),
        color_stack(exposures),
        fused_stack(fused),
        gray_stack(weights),
    ]
    if grad_inputs:
        grad_logits, grad_exposures = grad_inputs
        stacks += [gray_stack(grad_logits), color_stack(grad_exposures)]
    return [tuple(exposures.shape), temperature, *stacks]


def _run_cpp(kernel: str, inputs: Inputs, *others: Tensor | None) -> None:
    """Call a C++ kernel."""
    run = getattr(backends.CPU, kernel)
    run(inputs.in_double, *_arguments(inputs, *others), torch.get_num_threads())


def _run_cuda(kernel: str, inputs: Inputs, *others: Tensor | None) -> None:
    """Call a CUDA C++ kernel."""
    logits, exposures, _, valid = inputs
    device = cuda.device_and_stream(kernel, logits, exposures, valid, *others[:2])
    getattr(backends.CUDA_MODULE, kernel)(device, *_arguments(inputs, *others))


cpp_forward = partial(_run_cpp, "softmax_fuse")
cpp_backward = partial(_run_cpp, "softmax_fuse_backward")
cuda_forward = partial(_run_cuda, "softmax_fuse")
cuda_backward = partial(_run_cuda, "softmax_fuse_backward")


def _prepared_logits(inputs: Inputs) -> Tensor:
    """Apply temperature and validity to the logits, which the Triton kernels do not support."""
    logits, _, temperature, valid = inputs
    if temperature == 1 and valid is None:
        return logits
    if logits.dtype != torch.float64:
        logits = logits.float()
    return tempered_logits(logits, temperature, valid)


def triton_forward(inputs: Inputs, fused: Tensor, weights: Tensor | None) -> None:
    _launch(_prepared_logits(inputs), inputs.exposures, fused, weights)


def triton_backward(
    inputs: Inputs,
    grad_fused: Tensor | None,
    grad_weights: Tensor | None,
    grad_logits: Tensor | None,
    grad_exposures: Tensor | None,
) -> None:
    logits = _prepared_logits(inputs)
    _launch_backward(
        grad_fused, grad_weights, logits, inputs.exposures, grad_logits, grad_exposures
    )
    if grad_logits is not None and inputs.temperature != 1:
        grad_logits.div_(inputs.temperature)
