"""softmax_fuse and its gradients by the kernels of each backend, into memory that is ready.

Forward calls fill the fused image and the weights, backward calls the gradients by logits and by
exposures. What is not wanted is ``None``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops import _cuda
from fastmef.ops._arrays import Stack, color_stack, fused_stack, gray_stack, require
from fastmef.ops._library import triton_launcher
from fastmef.reference.fusion import tempered_logits

_launch = triton_launcher("fusion", "softmax_fuse")
_launch_backward = triton_launcher("fusion", "softmax_fuse_backward")


class Inputs(NamedTuple):
    """What both passes read."""

    logits: Tensor
    exposures: Tensor
    temperature: float
    valid: Tensor | None

    @property
    def in_double(self) -> bool:
        return torch.float64 in (self.logits.dtype, self.exposures.dtype)

    def require_fit(self) -> None:
        logits, exposures, _, valid = self
        require(
            exposures.ndim == 5
            and exposures.numel() > 0
            and logits.shape == exposures.shape[:2] + exposures.shape[3:],
            f"logits {tuple(logits.shape)} do not fit exposures {tuple(exposures.shape)}",
        )
        require(
            valid is None or (valid.dtype == torch.bool and valid.shape == logits.shape),
            "valid is boolean and of the logits' shape",
        )

    def prepared_logits(self) -> Tensor:
        """For kernels that know neither temperature nor validity."""
        logits, _, temperature, valid = self
        if temperature == 1 and valid is None:
            return logits
        if logits.dtype != torch.float64:
            logits = logits.float()
        return tempered_logits(logits, temperature, valid)

    def chain(self, by_prepared: Tensor | None) -> None:
        """Makes the gradient by prepared logits that by the logits."""
        if by_prepared is not None and self.temperature != 1:
            by_prepared.div_(self.temperature)


def _by_cpp(
    kernel: str,
    inputs: Inputs,
    logits: Tensor,
    fused: Tensor | None,
    weights: Tensor | None,
    *gradients: Stack,
) -> None:
    getattr(backends.CPU, kernel)(
        inputs.in_double,
        tuple(inputs.exposures.shape),
        gray_stack(logits),
        color_stack(inputs.exposures),
        fused_stack(fused),
        gray_stack(weights),
        *gradients,
        torch.get_num_threads(),
    )


def cpp_forward(inputs: Inputs, fused: Tensor, weights: Tensor | None) -> None:
    _by_cpp("softmax_fuse", inputs, inputs.prepared_logits(), fused, weights)


def cpp_backward(
    inputs: Inputs,
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    by_logits: Tensor | None,
    by_exposures: Tensor | None,
) -> None:
    gradients = gray_stack(by_logits), color_stack(by_exposures)
    logits = inputs.prepared_logits()
    _by_cpp("softmax_fuse_backward", inputs, logits, by_fused, by_weights, *gradients)
    inputs.chain(by_logits)


def triton_forward(inputs: Inputs, fused: Tensor, weights: Tensor | None) -> None:
    _launch(inputs.prepared_logits(), inputs.exposures, fused, weights)


def triton_backward(
    inputs: Inputs,
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    by_logits: Tensor | None,
    by_exposures: Tensor | None,
) -> None:
    logits = inputs.prepared_logits()
    _launch_backward(by_fused, by_weights, logits, inputs.exposures, by_logits, by_exposures)
    inputs.chain(by_logits)


def _by_cuda(
    kernel: str, inputs: Inputs, fused: Tensor | None, weights: Tensor | None, *gradients: Stack
) -> None:
    logits, exposures, temperature, valid = inputs
    getattr(backends.CUDA_MODULE, kernel)(
        _cuda.place(kernel, logits, exposures, valid, fused, weights),
        tuple(exposures.shape),
        temperature,
        gray_stack(logits),
        gray_stack(None if valid is None else valid.view(torch.uint8)),
        color_stack(exposures),
        fused_stack(fused),
        gray_stack(weights),
        *gradients,
    )


def cuda_forward(inputs: Inputs, fused: Tensor, weights: Tensor | None) -> None:
    _by_cuda("softmax_fuse", inputs, fused, weights)


def cuda_backward(
    inputs: Inputs,
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    by_logits: Tensor | None,
    by_exposures: Tensor | None,
) -> None:
    gradients = gray_stack(by_logits), color_stack(by_exposures)
    _by_cuda("softmax_fuse_backward", inputs, by_fused, by_weights, *gradients)
