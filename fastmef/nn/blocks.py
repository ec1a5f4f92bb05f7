"""Groups of convolutions for the encoder-decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmef.nn.convolution import Conv3x3
from fastmef.nn.norm_act import fused_norm_act, fused_steps, is_fused
from fastmef.ops.norm_act import BORDER
from fastmef.reference.borders import repeat_border
from fastmef.reference.resampling import gathers_gradient

PADDINGS = ("replicate", "zeros")

# PyTorch 2.6 does not tell whether it is exporting; a network exported there has a fixed size.
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


class ConvNormAct(nn.Sequential):
    """Apply a 3×3 convolution, batch normalisation and ReLU.

    With ``then`` the forward pass returns a pair: the activation and :func:`follow` of it. Kernels
    that normalise compute both in one pass. ``keep=False`` says that the activation itself is not
    used, ``has_border`` that the features already have the border that this block would add.

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

    def forward(
        self, features: Tensor, then: str = "", keep: bool = True, has_border: bool = False
    ) -> Any:
        convolution, norm, activation = self
        if self.replicates and not has_border:
            features = replicate_border(features)
        y, after = norm_act(convolution(features), norm, activation, then, keep)
        return (y, after) if then else y


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

    def forward(
        self, features: Tensor, then: str = "", keep: bool = True, has_border: bool = False
    ) -> Any:
        *before, last = self
        for block in before:
            if last.replicates:
                _, features = block(features, BORDER, keep=False, has_border=has_border)
                has_border = True
            else:
                features = block(features)
        return last(features, then, keep, has_border)


def norm_act(
    features: Tensor,
    norm: nn.Module,
    activation: Callable[[Tensor], Tensor],
    then: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return the ``activation`` (ReLU) after ``norm``, and :func:`follow` of it.

    If ``keep`` is false, the activation may be empty.
    """
    fused = ""
    if is_fused(features, norm):
        fused = fused_steps(features, then, keep)
        y, after = fused_norm_act(features, norm, fused, keep)
    else:
        y = activation(norm(features))
    return y, follow(after if fused else y, then.removeprefix(fused))


def conv3x3(in_channels: int, out_channels: int, padding: str) -> nn.Conv2d:
    """Return a convolution without bias, which the normalisation after it would subtract again."""
    convolution = Conv3x3(in_channels, out_channels, padding=1 if padding == "zeros" else 0)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution


def replicate_border(features: Tensor) -> Tensor:
    """Extend ``(B, C, H, W)`` by its border pixels to ``(B, C, H + 2, W + 2)``."""
    return repeat_border(features, 1, 1, 1, 1)


def follow(features: Tensor, then: str) -> Tensor:
    """Apply the steps of ``then``, which are separated by spaces.

    ``"pool"`` (2×2 maximum) halves the size, ``"bilinear"`` or ``"nearest"`` doubles it,
    ``"border"`` is :func:`replicate_border`.
    """
    for step in then.split():
        if step == BORDER:
            features = replicate_border(features)
        elif step == "pool":
            features = F.max_pool2d(features, 2)
        elif step == "nearest":
            features = F.interpolate(features, scale_factor=2, mode="nearest")
        elif gathers_gradient(features):
            features = _BilinearUpsample.apply(features)
        else:
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
    return features


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
