"""Run a folded network for any number of exposures without a pass over features in between.

As in :mod:`fastmef.inference.convolve`, features have a margin of replicated border pixels, and
convolutions run over features and margin: no copy with a border is made. The first convolution of a
group adds the context of all exposures and applies ReLU before it writes a value. The features of
an exposure are a tensor of their own, so none are copied into a stack.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmef import backends
from fastmef.inference.convolve import convolve_relu, replicate_into_margin
from fastmef.nn.blocks import follow, replicate_border
from fastmef.nn.bodies import ExposureBody
from fastmef.nn.exposure_blocks import ExposureGroup
from fastmef.nn.network import FusionNet
from fastmef.ops.exposure_context import EXPOSURE_CONTEXT, exposure_context
from fastmef.ops.upsample_join import upsample_join

_MARGIN = 1


@torch.no_grad()
def exposure_logits(network: FusionNet, exposures: Tensor, shares: Tensor) -> Tensor:
    """Return ``network.logits(exposures, shares)`` of one bracket, up to rounding.

    Args:
        network: a network for any number of exposures.
        exposures: ``(1, K, 3, H, W)``.
        shares: ``(1, K)``.
    """
    if not _can_run(network, exposures):
        return network.logits(exposures, shares)
    features = network.exposure_features(exposures, shares)
    frames = [_channels_last(replicate_border(x)) for x in features.split(1)]
    body: Any = network.body
    parts = (shares[0] / shares[0].sum()).tolist()
    logits = torch.cat(_body(body, frames, parts), dim=1)
    logits = logits[..., : exposures.shape[-2], : exposures.shape[-1]]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()


def _can_run(network: FusionNet, exposures: Tensor) -> bool:
    """Return whether the network is folded and runs on the CPU."""
    body = network.body
    return (
        isinstance(body, ExposureBody)
        and len(exposures) == 1
        and EXPOSURE_CONTEXT.backend(next(body.parameters())) == backends.CPP
        and all(not isinstance(x, nn.BatchNorm2d) for x in body.modules())
    )


def _body(body: ExposureBody, frames: list[Tensor], parts: list[float]) -> list[Tensor]:
    """Return the logits ``(1, 1, H, W)`` of every frame."""
    skipped: list[list[Tensor]] = []
    for group in body.encoder[:-1]:
        frames = _group(group, frames, parts)
        if body.skip_connections:
            skipped.append(frames)
        frames = [_pooled(x) for x in frames]
    frames = _group(body.encoder[-1], frames, parts)
    for group in body.decoder:
        beside = skipped.pop() if skipped else [None] * len(frames)
        pairs = zip(frames, beside, strict=True)
        frames = [_doubled(x, body.upsampling, skip) for x, skip in pairs]
        frames = _group(group, frames, parts)
    return [body.head(_inner(x)) for x in frames]


def _group(group: Any, frames: list[Tensor], parts: list[float]) -> list[Tensor]:
    """Return the frames after an :class:`~fastmef.nn.exposure_blocks.ExposureGroup`."""
    assert isinstance(group, ExposureGroup)
    context = exposure_context(frames, parts)
    # A 1×1 convolution takes longer than the product with a matrix.
    pixels = F.linear(context.permute(0, 2, 3, 1), group.others.weight.flatten(1))
    added = pixels.permute(0, 3, 1, 2)
    second: Any = group.second[0]
    channels = frames[0].shape[1]
    scene = _inner(context)[:, :channels].mean(dim=(2, 3)) if group.scene is not None else None
    out = []
    for frame in frames:
        other = added
        if scene is not None and group.scene is not None:
            levels = torch.cat((_inner(frame).mean(dim=(2, 3)), scene), dim=-1)
            other = added + group.scene(levels)[:, :, None, None]
        first = convolve_add_relu(frame, other, group.own.weight, group.own.bias)
        replicate_into_margin(first, _width(first), _MARGIN)
        found = convolve_relu(first, second.weight, second.bias, (1, 1))
        replicate_into_margin(found, _width(found), _MARGIN)
        out.append(found)
    return out


def _width(frame: Tensor) -> int:
    return frame.shape[-1] - 2 * _MARGIN


def _inner(frame: Tensor) -> Tensor:
    """Return a frame without its margin."""
    return frame[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _channels_last(frame: Tensor) -> Tensor:
    return frame.contiguous(memory_format=torch.channels_last)


def _framed(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Allocate ``(1, C, H, W)`` with a margin, channels last."""
    size = height + 2 * _MARGIN, width + 2 * _MARGIN
    return like.new_empty((1, *size, channels)).permute(0, 3, 1, 2)


def _pooled(frame: Tensor) -> Tensor:
    """Return 2×2 maxima, with a margin. Their indices are not computed, as by ``max_pool2d``."""
    inner = _inner(frame)
    rows = torch.maximum(inner[..., ::2, :], inner[..., 1::2, :])
    out = _framed(frame, frame.shape[1], rows.shape[-2], rows.shape[-1] // 2)
    torch.maximum(rows[..., ::2], rows[..., 1::2], out=_inner(out))
    replicate_into_margin(out, _width(out), _MARGIN)
    return out


def _doubled(frame: Tensor, upsampling: str, skipped: Tensor | None) -> Tensor:
    """Return a frame at double size, with the channels of ``skipped`` behind its own."""
    if skipped is not None and upsampling == "bilinear":
        return upsample_join(frame, skipped)
    doubled = _inner(follow(frame, upsampling))
    if skipped is None:
        return _channels_last(doubled)
    channels = doubled.shape[1]
    height, width = _inner(skipped).shape[-2:]
    out = _framed(frame, channels + skipped.shape[1], height, width)
    out[:, :channels] = doubled
    out[:, channels:] = skipped
    return out


def convolve_add_relu(frame: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ReLU of the sum of a convolution and ``other``."""
    if _has_fused_sum(frame.device, frame.dtype):
        return _fused_sum(frame, other, weight, bias)
    return F.relu_(F.conv2d(frame, weight, bias, padding=1).add_(other))


def _fused_sum(frame: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve by oneDNN, which adds and applies ReLU before it writes a value."""
    operation = torch.ops.mkldnn._convolution_pointwise.binary
    ones = (1, 1)
    return operation(frame, other, weight, bias, ones, ones, ones, 1, "add", 1.0, "relu", [], "")


@functools.cache
def _has_fused_sum(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether :func:`_fused_sum` can be used: PyTorch does not document it."""
    frame, other = (
        torch.linspace(-1, 1, channels * 6 * 7, device=device).view(1, 6, 7, channels).to(dtype)
        for channels in (32, 16)
    )
    frame, other = frame.permute(0, 3, 1, 2), other.permute(0, 3, 1, 2)
    weight = torch.linspace(-1, 1, 16 * 32 * 9, device=device).view(16, 32, 3, 3).to(dtype)
    bias = weight[:, 0, 0, 0].clone()
    expected = (F.conv2d(frame, weight, bias, padding=1) + other).relu_()
    try:
        found = _fused_sum(frame, other, weight, bias)
    except (AttributeError, RuntimeError):
        return False
    unit = torch.finfo(dtype).eps * float(expected.max())
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 4 * unit
