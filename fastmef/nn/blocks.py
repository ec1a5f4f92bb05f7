"""Groups of convolutions for the encoder-decoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmef.nn.norm_act import follows_fused, fused_norm_act, is_fused
from fastmef.reference.borders import repeat_border
from fastmef.reference.resampling import gathers_gradient

PADDINGS = ("replicate", "zeros")

# PyTorch 2.6 does not tell whether it is exporting; a network exported there has a fixed size.
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


class ConvNormAct(nn.Sequential):
    """Apply a 3×3 convolution, batch normalisation and ReLU.

    With ``then`` the forward pass returns a pair: the activation and :func:`follow` of it. Kernels
    that normalise compute both in one pass. ``keep=False`` says that the activation itself is not
    used.

    Args:
        padding: the values beyond the border, ``"replicate"`` (the border pixels) or ``"zeros"``,
            which leaves a visible line along the border.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: str = "replicate") -> None:
        super().__init__(
            conv3x3(in_channels, out_channels, padding),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.replicates = padding == "replicate"

    def forward(self, features: Tensor, then: str = "", keep: bool = True) -> Any:
        convolution, norm, activation = self
        features = convolution(replicate_border(features) if self.replicates else features)
        if not is_fused(features, norm):
            features = activation(norm(features))
        elif follows_fused(features, then, keep):
            return fused_norm_act(features, norm, then, keep)
        else:
            features, _ = fused_norm_act(features, norm, "", True)
        return (features, follow(features, then)) if then else features


class ConvGroup(nn.Sequential):
    """Apply ``depth`` convolutions at one resolution, like VGG16 between two pools."""

    def __init__(
        self, in_channels: int, out_channels: int, depth: int, padding: str = "replicate"
    ) -> None:
        super().__init__(
            *(
                ConvNormAct(in_channels if i == 0 else out_channels, out_channels, padding)
                for i in range(depth)
            )
        )

    def forward(self, features: Tensor, then: str = "", keep: bool = True) -> Any:
        *before, last = self
        for block in before:
            features = block(features)
        return last(features, then, keep)


def conv3x3(in_channels: int, out_channels: int, padding: str) -> nn.Conv2d:
    """Return a convolution without bias, which the normalisation after it would subtract again."""
    convolution = nn.Conv2d(
        in_channels, out_channels, 3, padding=1 if padding == "zeros" else 0, bias=False
    )
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution


def replicate_border(features: Tensor) -> Tensor:
    """Extend ``(B, C, H, W)`` by its border pixels to ``(B, C, H + 2, W + 2)``."""
    return repeat_border(features, 1, 1, 1, 1)


def follow(features: Tensor, then: str) -> Tensor:
    """Halve the size by ``"pool"`` (2×2 maximum), double it by ``"bilinear"`` or ``"nearest"``."""
    if then == "pool":
        return F.max_pool2d(features, 2)
    if then == "nearest":
        return F.interpolate(features, scale_factor=2, mode="nearest")
    if gathers_gradient(features):
        return _BilinearUpsample.apply(features)
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


class _BilinearUpsample(torch.autograd.Function):
    """Upsample by 2 bilinearly; the backward pass gathers the gradient.

    PyTorch's backward pass adds with atomics on a GPU, in any order, and rounds every sum in half
    precision. Along either axis a pixel has the weights 1/4, 3/4, 3/4 and 1/4 in the larger image.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        wide = grad_output.to(torch.promote_types(grad_output.dtype, torch.float32))
        for dim in (-2, -1):
            # A border pixel also has the weight of the pixel that is missing beyond the border.
            padded = torch.cat((wide.narrow(dim, 0, 1), wide, wide.narrow(dim, -1, 1)), dim)
            count = wide.shape[dim] // 2
            first, second = padded.unflatten(dim, (count + 1, 2)).unbind(dim)
            outer = first.narrow(dim, 0, count) + second.narrow(dim, 1, count)
            inner = second.narrow(dim, 0, count) + first.narrow(dim, 1, count)
            wide = 0.25 * outer + 0.75 * inner
        return wide.to(grad_output.dtype)
