"""FusionNet: the encoder-decoder that predicts one weight map for every exposure."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastmef import functional
from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_dense
from fastmef.nn.blocks import ConvGroup
from fastmef.reference.color import rgb_to_gray

DEPTHS = (2, 2, 3, 3)  # convolutions between the pools of VGG16, its first ten
STRIDE = 2 ** (len(DEPTHS) - 1)
LARGEST_OPTION = 65536
RANGE_TOLERANCE = 1e-3  # resampling overshoots a little


class FusionOutput(NamedTuple):
    """What :class:`FusionNet` returns."""

    fused: Tensor
    """``(B, 3, H, W)``, inside the range of the exposures at every pixel."""
    weights: Tensor
    """``(B, K, H, W)``, non-negative, summing to 1 over K."""


class FusionNet(nn.Module):
    r"""Predicts per-pixel fusion weights from a stack of exposures and applies them to the RGB.

    .. math:: F = \sum_k W_k I_k, \qquad W = \mathrm{softmax}_k(\mathrm{net}(I_1, \dots, I_K))

    The encoder is the first ten convolutions of VGG16 with batch normalisation and three max-pools,
    the decoder its mirror image with upsampling, then a 1×1 convolution to K logits.
    At ``width=64``, the paper's network, it has 17.6 million parameters and takes 99.2 GFLOP
    (a multiply-add is 2) for one 250×250 stack, which is computed as 256×256.

    Any size works by one rule, in training and inference alike: the stack is continued at the
    bottom and right by its last row and column to the next multiple of 8, the logits are cropped.

    Args:
        exposures: K ≥ 2, the number of exposures in a stack; their order is part of what is
            learned (the bundled weights: dark to bright).
        width: channels of the first group; the groups have 1, 2, 4 and 8 times as many.
        in_features: ``"gray"`` (the paper's) reads the luma of each exposure, ``"rgb"`` all three
            channels.
        skip_connections: concatenate each encoder group's output to the decoder group of the
            same resolution (the paper's network has none). Gives sharp weight maps.
        upsampling: ``"bilinear"`` or ``"nearest"``.

    Shape:
        exposures ``(B, K, 3, H, W)``, float in [0, 1], any H, W ≥ 1 → :class:`FusionOutput`.

    Source: arXiv 2510.21815.

    Example:
        >>> net = FusionNet(width=4)
        >>> fused, weights = net(torch.rand(1, 2, 3, 17, 33))
        >>> fused.shape, weights.shape
        (torch.Size([1, 3, 17, 33]), torch.Size([1, 2, 17, 33]))
    """

    def __init__(
        self,
        exposures: int = 2,
        width: int = 64,
        in_features: str = "gray",
        skip_connections: bool = False,
        upsampling: str = "bilinear",
    ) -> None:
        super().__init__()
        _check_options(exposures, width, in_features, skip_connections, upsampling)
        self.config: dict[str, Any] = {
            "exposures": exposures,
            "width": width,
            "in_features": in_features,
            "skip_connections": skip_connections,
            "upsampling": upsampling,
        }
        channels = [width * 2**level for level in range(len(DEPTHS))]
        inputs = exposures * (3 if in_features == "rgb" else 1)
        self.encoder = nn.ModuleList()
        for channel, depth in zip(channels, DEPTHS, strict=True):
            self.encoder.append(ConvGroup(inputs, channel, depth))
            inputs = channel
        self.decoder = nn.ModuleList()
        for level in reversed(range(len(DEPTHS))):
            joined = channels[level] if skip_connections and level < len(DEPTHS) - 1 else 0
            self.decoder.append(ConvGroup(inputs + joined, channels[level], DEPTHS[level]))
            inputs = channels[level]
        self.head = nn.Conv2d(width, exposures, 1)
        # Small logits: training starts near the plain mean, where every exposure has a gradient.
        nn.init.normal_(self.head.weight, std=1e-2)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def logits(self, exposures: Tensor) -> Tensor:
        """The K maps before the softmax, ``(B, K, H, W)``; float32 or better even in autocast."""
        _check_exposures(exposures, self.config["exposures"])
        planes = exposures.flatten(1, 2) if self._reads_rgb else rgb_to_gray(exposures)
        height, width = planes.shape[-2:]
        planes = _continue(planes, -1, -width % STRIDE)
        planes = _continue(planes, -2, -height % STRIDE)
        features = planes.contiguous(memory_format=torch.channels_last)
        skips, last = self.config["skip_connections"], len(DEPTHS) - 1
        skipped: list[Tensor] = []
        for level, group in enumerate(self.encoder):
            if level < last:
                whole, features = group(features, then="pool", keep=skips)
                if skips:
                    skipped.append(whole)
            else:
                features = group(features)
        for level, group in enumerate(self.decoder):
            if level and skips:
                features = torch.cat((features, skipped.pop()), dim=1)
            if level < last:
                _, features = group(features, then=self.config["upsampling"], keep=False)
            else:
                features = group(features)
        logits = self.head(features)[..., :height, :width]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(self, exposures: Tensor) -> FusionOutput:
        logits = self.logits(exposures)
        return FusionOutput(*functional.softmax_fuse(logits, exposures, return_weights=True))

    @property
    def _reads_rgb(self) -> bool:
        return self.config["in_features"] == "rgb"

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str] = "default") -> FusionNet:
        """A network with trained weights, in eval mode on the CPU.

        Args:
            name_or_path: a name from :func:`fastmef.list_pretrained`, or a ``.safetensors`` file
                written by :meth:`save`.

        Raises:
            InputError: no such name or file, or a file that is damaged or holds no FusionNet.
        """
        from fastmef.nn.pretrained import load_network

        return load_network(name_or_path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration and a checksum to a safetensors file, atomically.

        Raises:
            InputError: weights that are not finite.
            OutputError: the file cannot be written.
        """
        from fastmef.nn.pretrained import save_network

        save_network(self, path)


def _continue(planes: Tensor, dim: int, missing: int) -> Tensor:
    """The last row or column, ``missing`` times more.

    Not by ``F.pad``: PyTorch's compiler expects another layout of its gradient than it gets.
    """
    if not missing:
        return planes
    shape = list(planes.shape)
    shape[dim] = missing
    return torch.cat((planes, planes.narrow(dim, -1, 1).expand(shape)), dim)


def _check_options(
    exposures: int, width: int, in_features: str, skip_connections: bool, upsampling: str
) -> None:
    if not isinstance(exposures, int) or not 2 <= exposures <= LARGEST_OPTION:
        raise InputError(f"exposures must be an integer of at least 2, got {shown(exposures)}")
    if not isinstance(width, int) or not 1 <= width <= LARGEST_OPTION:
        raise InputError(
            f"width must be a positive integer, at most {LARGEST_OPTION}, got {shown(width)}"
        )
    if not isinstance(in_features, str) or in_features not in ("gray", "rgb"):
        raise InputError(f"in_features must be 'gray' or 'rgb', got {shown(in_features)}")
    if not isinstance(skip_connections, bool):
        raise InputError(f"skip_connections must be True or False, got {shown(skip_connections)}")
    if not isinstance(upsampling, str) or upsampling not in ("bilinear", "nearest"):
        raise InputError(f"upsampling must be 'bilinear' or 'nearest', got {shown(upsampling)}")


def _check_exposures(exposures: Tensor, count: int) -> None:
    check_dense("exposures", exposures)
    if exposures.ndim != 5 or exposures.shape[1] != count or exposures.shape[2] != 3:
        raise InputError(
            f"exposures must have shape (B, {count}, 3, H, W), got {tuple(exposures.shape)}"
        )
    if not exposures.is_floating_point():
        raise InputError(f"exposures must be floating point in [0, 1], got {exposures.dtype}")
    if 0 in exposures.shape:
        raise InputError(f"exposures must not be empty, got {tuple(exposures.shape)}")
    # Values are read where that costs no synchronisation, and not in a traced graph.
    if exposures.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (float(value) for value in exposures.detach().aminmax())
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            found = "NaN" if low != low else f"values from {low:.4g} to {high:.4g}"
            raise InputError(f"exposures must be in [0, 1], got {found}")
