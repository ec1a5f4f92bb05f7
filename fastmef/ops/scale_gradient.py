"""scale_gradient_: scale a gradient that the forward pass computed by ``grad_output``, in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops import loss_kernels as kernels
from fastmef.ops.common.operation import GPU_FLOATS, LaunchError, Operation, Support

SCALE_GRADIENT = Operation("scale_gradient", cuda=Support(GPU_FLOATS), triton=Support(GPU_FLOATS))
SCALE_GRADIENT.register(
    "scale_gradient_(Tensor(a!) gradient, Tensor grad_output, float divisor) -> ()",
    lambda *given: None,
    cuda=kernels.scale_cuda,
    triton=kernels.scale_triton,
)
_autograd: Any = torch._C._autograd
graph_is_retained = _autograd._get_current_graph_task_keep_graph
_scale_gradient = SCALE_GRADIENT.eager("scale_gradient_")


def scaled(backend: str, gradient: Tensor, grad_output: Tensor, divisor: float) -> Tensor:
    """Return ``gradient * grad_output / divisor``, in place unless the graph is retained.

    ``backward()`` starts with ``grad_output`` = 1, which the host cannot read without waiting for
    the GPU. So one kernel is launched, which returns at once if the factor is 1.
    """
    if (
        backend in backends.ON_GPU
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not graph_is_retained()
    ):
        try:
            _scale_gradient(backend, gradient, grad_output, divisor)
        except LaunchError:
            pass
        else:
            return gradient
    grad_output = grad_output / divisor
    if gradient.is_cuda and gradient.dtype == torch.float16:
        # PyTorch would first round the scalar to float16, where 65536, the usual start of loss
        # scaling, is infinite. On the CPU it rounds only a scalar on the left.
        return (gradient.float() * grad_output).half()
    return gradient * grad_output
