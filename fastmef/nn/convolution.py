"""3×3 convolutions, which train faster on a CPU than PyTorch's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmef import backends
from fastmef.ops import conv3x3 as op


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution without bias; its parameters and results are those of ``nn.Conv2d``.

    Where a CPU trains in float32, Winograd's algorithm computes outputs and gradients.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=padding, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if not self._trains_in_kernels(input):
            return super().forward(input)
        return op.conv3x3(input, self.weight, int(self.padding[0]))

    def _trains_in_kernels(self, features: Tensor) -> bool:
        """Return whether kernels compute this call.

        In inference the convolution is folded with the normalisation, exported or compiled.
        """
        if not (self.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
            return False
        if features.device.type != "cpu" or features.ndim != 4 or self.bias is not None:
            return False
        if torch.is_autocast_enabled("cpu"):
            return False
        if op.CONV3X3.backend(features, self.weight) != backends.CPP:
            return False
        # The module itself reports what does not fit.
        rows, columns = (size + 2 * int(self.padding[0]) for size in features.shape[2:])
        fits = features.shape[1] == self.in_channels and min(rows, columns) >= 3
        is_dense = features.is_contiguous(memory_format=torch.channels_last)
        return fits and is_dense and features.numel() > 0
