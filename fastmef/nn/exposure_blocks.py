"""Groups of convolutions that are shared by any number of exposures."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmef.nn.blocks import (
    ConvNormAct,
    conv3x3,
    follow,
    is_exporting,
    norm_act,
    replicate_border,
)
from fastmef.ops.norm_act import BORDER


class ExposureGroup(nn.Module):
    r"""Apply two convolutions to each of K exposures, in the context of all of them.

    .. math:: y_k = \mathrm{ReLU}\big(\mathrm{BN}(A * x_k + B\,[\bar x, \max_j x_j])\big),
        \qquad \bar x = \sum_j s_j x_j / \sum_j s_j

    and a second convolution of :math:`y_k`. Mean and maximum over the exposures do not depend on
    their order, nor, with shares s that copies of a frame divide among themselves, on how often a
    frame was taken.

    Args:
        whole_scene: also add a linear map of the spatial means of :math:`x_k` and
            :math:`\bar x`, which tell how bright this frame and the scene are.

    Shape:
        features ``(B K, C, H, W)``, shares ``(B, K)`` → ``(B K, out_channels, H, W)``.
    """

    def __init__(self, in_channels: int, out_channels: int, whole_scene: bool = False) -> None:
        super().__init__()
        self.own = conv3x3(in_channels, out_channels, "replicate")
        self.others = nn.Conv2d(2 * in_channels, out_channels, 1, bias=False)
        self.scene = nn.Linear(2 * in_channels, out_channels, bias=False) if whole_scene else None
        if self.scene is not None:
            nn.init.zeros_(self.scene.weight)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.second = ConvNormAct(out_channels, out_channels)

    def forward(self, features: Tensor, shares: Tensor, then: str = "") -> Any:
        batch, count = shares.shape
        # Features are channels last, so that every view below shares their memory.
        pixels = features.permute(0, 2, 3, 1)
        _, height, width, channels = pixels.shape
        stack = pixels.reshape(batch, count, -1)
        parts = (shares / shares.sum(dim=1, keepdim=True)).to(stack.dtype)
        mean = torch.bmm(parts.unsqueeze(1), stack).view(batch, height, width, channels)
        if is_exporting():
            largest = stack.amax(dim=1).view_as(mean)  # the number of exposures is dynamic
        else:
            # amax over the second axis is several times slower.
            largest = functools.reduce(torch.maximum, stack.unbind(1)).view_as(mean)
        mean_weight, largest_weight = self.others.weight.flatten(1).split(channels, dim=1)
        context = F.linear(mean, mean_weight) + F.linear(largest, largest_weight)
        joined = self._convolved(features).permute(0, 2, 3, 1)
        joined = joined.unflatten(0, (batch, count))
        context = context.unsqueeze(1)
        joined = joined.add_(context) if frames_may_run_alone() else joined + context
        if self.scene is not None:
            levels = pixels.mean(dim=(1, 2)).unflatten(0, (batch, count))
            scene = mean.mean(dim=(1, 2)).unsqueeze(1).expand_as(levels)
            added = self.scene(torch.cat((levels, scene), dim=-1))
            joined = joined + added[:, :, None, None]
        joined = joined.flatten(0, 1).permute(0, 3, 1, 2)
        _, joined = norm_act(joined, self.norm, F.relu_, BORDER, keep=False)
        return self.second(joined, then, has_border=True)

    def _convolved(self, features: Tensor) -> Tensor:
        """Apply the first convolution.

        Without gradients it takes one exposure after the other: the copy with a border of all of
        them is the largest tensor of a long bracket.
        """
        if not frames_may_run_alone():
            return self.own(replicate_border(features))
        out: Tensor | None = None
        for k, frame in enumerate(features.split(1)):
            convolved = self.own(replicate_border(frame))
            if out is None:
                out = _channels_last_like(convolved, len(features), convolved.shape[1])
            out[k] = convolved[0]
        assert out is not None
        return out

    def fold(self) -> None:
        """Fold the first batch normalisation into the layers before it, for inference."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        for module in (self.own, self.others, self.scene):
            if module is not None:
                shape = (-1,) + (1,) * (module.weight.ndim - 1)
                module.weight = nn.Parameter(module.weight * scale.reshape(shape))
        self.own.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
        self.norm = nn.Identity()


def upsample_and_join(features: Tensor, upsampling: str, skipped: Tensor) -> Tensor:
    """Return ``features`` at double size, with the channels of ``skipped`` behind theirs.

    Without gradients only one exposure at a time is upsampled beside the result.
    """
    if not frames_may_run_alone():
        return torch.cat((follow(features, upsampling), skipped), dim=1)
    count, channels = skipped.shape[:2]
    joined = _channels_last_like(skipped, count, features.shape[1] + channels)
    for k in range(count):
        joined[k, :-channels] = follow(features[k : k + 1], upsampling)[0]
        joined[k, -channels:] = skipped[k]
    return joined


def _channels_last_like(features: Tensor, count: int, channels: int) -> Tensor:
    """Allocate ``count`` frames of ``channels`` channels, of the size of ``features``."""
    height, width = features.shape[-2:]
    return features.new_empty((count, height, width, channels)).permute(0, 3, 1, 2)


def frames_may_run_alone() -> bool:
    """Return whether exposures may be computed one by one: no gradient, compiler or export."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or is_exporting())
