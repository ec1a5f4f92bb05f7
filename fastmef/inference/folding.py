"""Fold batch normalisation into the convolutions before it: the same network, fewer passes."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastmef.nn.exposure_blocks import ExposureGroup

Network = TypeVar("Network", bound=nn.Module)


def fold_batchnorm(network: Network) -> Network:
    r"""Return a copy of ``network`` for inference: in eval mode, with

    .. math:: w' = w \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}, \qquad
        b' = (b - \mu) \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} + \beta

    wherever a ``Conv2d`` is followed by a ``BatchNorm2d`` in an ``nn.Sequential``. Exposure groups
    are folded by :meth:`fastmef.nn.exposure_blocks.ExposureGroup.fold`. Outputs differ by rounding
    only.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, ExposureGroup):
            module.fold()
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            convolution, norm = module[index], module[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(convolution, norm)
                module[index + 1] = nn.Identity()
    return folded.requires_grad_(False)
