"""conv3x3: 3×3 convolutions of channels-last images in float32, by Winograd's F(2×2, 3×3).

PyTorch computes the same with 2.25 times as many products; :mod:`fastmef.nn.convolution` chooses
between them. Bordered images take a ``padding`` of 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops.common.operation import Operation, Support
from fastmef.ops.common.tensors import fused_stack, require

GROUP = 16  # kChannelGroup in csrc/cpu/conv3x3/conv3x3.h


def _covers(x: Tensor, weight: Tensor) -> bool:
    """Accept whole groups of channels; compilers other than GCC and Clang build no kernels."""
    whole = not (weight.shape[0] % GROUP or weight.shape[1] % GROUP)
    return whole and hasattr(backends.CPU, "conv3x3")


CONV3X3 = Operation("conv3x3", cpp=Support((torch.float32,), _covers))


def _is_dense(images: Tensor) -> bool:
    return images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last)


def _check(x: Tensor, weight: Tensor, channels: int, padding: int) -> None:
    """Refuse tensors that do not fit; ``x`` has as many channels as axis ``channels`` of weight."""
    require(
        weight.ndim == 4
        and weight.shape[2:] == (3, 3)
        and not (weight.shape[0] % GROUP or weight.shape[1] % GROUP)
        and _is_dense(x)
        and x.shape[1] == weight.shape[channels]
        and x.dtype == weight.dtype == torch.float32
        and padding in (0, 1, 2)
        and min(x.numel(), weight.numel(), *(n + 2 * padding - 2 for n in x.shape[2:])) > 0,
        f"conv3x3 of {tuple(x.shape)} with {tuple(weight.shape)} is not defined, is not channels "
        "last, or has no whole groups of channels",
    )


def _fake(x: Tensor, weight: Tensor, padding: int, mirrored: bool) -> Tensor:
    batch, _, height, width = x.shape
    rows, columns = height + 2 * padding - 2, width + 2 * padding - 2
    return x.new_empty((batch, rows, columns, weight.shape[int(mirrored)])).permute(0, 3, 1, 2)


def _conv3x3_cpp(x: Tensor, weight: Tensor, padding: int, mirrored: bool) -> Tensor:
    _check(x, weight, int(not mirrored), padding)
    out = _fake(x, weight, padding, mirrored)
    batch, channels, height, width = x.shape
    backends.CPU.conv3x3(  # type: ignore[union-attr]
        (batch, height, width, channels, out.shape[1]),
        padding,
        *map(fused_stack, (x, weight, out)),
        mirrored,
        torch.get_num_threads(),
    )
    return out


def _weight_gradient_cpp(grad_output: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
    _check(x, weight, 1, padding)
    batch, channels, height, width = x.shape
    size = (batch, weight.shape[0], height + 2 * padding - 2, width + 2 * padding - 2)
    require(
        grad_output.shape == size and _is_dense(grad_output) and grad_output.dtype == x.dtype,
        f"the gradient of conv3x3 has shape {size} and is channels last",
    )
    grad_weight = torch.empty_like(weight)
    backends.CPU.conv3x3_weight_gradient(  # type: ignore[union-attr]
        (batch, height, width, channels, weight.shape[0]),
        padding,
        *map(fused_stack, (x, grad_weight, grad_output)),
        torch.get_num_threads(),
    )
    return grad_weight


# With ``mirrored`` the weights are rotated by 180° and their channels exchanged.
_conv3x3 = CONV3X3.register(
    "conv3x3(Tensor x, Tensor weight, int padding, bool mirrored) -> Tensor",
    _fake,
    cpp=_conv3x3_cpp,
)
_weight_gradient = CONV3X3.register(
    "conv3x3_weight_gradient(Tensor grad_output, Tensor x, Tensor weight, int padding) -> Tensor",
    lambda grad_output, x, weight, padding: torch.empty_like(weight),
    cpp=_weight_gradient_cpp,
)


class Conv3x3(torch.autograd.Function):
    """The convolution; its gradient w.r.t. the input is one with mirrored weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        out: Tensor = _conv3x3(x, weight, padding, False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _conv3x3(grad_output, weight, 2 - ctx.padding, True)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad_output, x, weight, ctx.padding)
        return grad_x, grad_weight, None


def conv3x3(x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Return the convolution of ``(B, C, H, W)``; the padding, 0 or 1, is with zeros."""
    return Conv3x3.apply(x, weight, padding)
