"""Pad images beyond their borders, with gradients that are bit-identical in every run.

On a GPU the backward pass of ``F.pad`` adds with atomics, in any order. That of ``torch.cat``
allocates and adds a whole image for each slice.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def repeat_border(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Extend ``(B, C, H, W)`` by copies of its outermost rows and columns."""
    if not (torch.is_grad_enabled() and images.requires_grad):
        return _repeat(images, left, right, top, bottom)
    if not torch.compiler.is_compiling():
        return _RepeatBorder.apply(images, left, right, top, bottom)
    # torch.compile expects another layout of the gradient of F.pad than it gets.
    for dim, before, after in ((-2, top, bottom), (-1, left, right)):
        first, last = images.narrow(dim, 0, 1), images.narrow(dim, -1, 1)
        images = torch.cat((*[first] * before, images, *[last] * after), dim)
    return images


def _repeat(images: Tensor, *margins: int) -> Tensor:
    """Pad with copies of the border, without a change of dtype under autocast."""
    device = images.device.type
    # Autocast would convert bfloat16 to float32 for this copy, and back for a convolution.
    available = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if available else nullcontext():
        return F.pad(images, margins, mode="replicate")


def mirror_border(images: Tensor, columns: int, rows: int) -> Tensor:
    """Extend ``(B, C, H, W)`` by reflection; the outermost pixels are not repeated."""
    if not (torch.is_grad_enabled() and images.requires_grad):
        return F.pad(images, (columns, columns, rows, rows), mode="reflect")
    for dim, margin in ((-2, rows), (-1, columns)):
        size = images.shape[dim]
        before = images.narrow(dim, 1, margin).flip(dim)
        after = images.narrow(dim, size - 1 - margin, margin).flip(dim)
        images = torch.cat((before, images, after), dim)
    return images


class _RepeatBorder(torch.autograd.Function):
    """Repeat the border; the backward pass adds the gradients of the copies to the border once."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
        return _repeat(images, left, right, top, bottom)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *ctx.margins = inputs

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        left, right, top, bottom = ctx.margins
        rows = grad_output.shape[-2] - top - bottom
        grad_images = _without_margins(grad_output.narrow(-2, top, rows), left, right)
        for at, first, margin in ((0, 0, top), (rows - 1, top + rows, bottom)):
            if margin:
                beyond = _without_margins(grad_output.narrow(-2, first, margin), left, right)
                grad_images.narrow(-2, at, 1).add_(beyond.sum(-2, keepdim=True))
        return grad_images, *(None,) * 4


def _without_margins(rows: Tensor, left: int, right: int) -> Tensor:
    """Return a copy of rows without their margins, whose sums are added to the adjacent columns."""
    columns = rows.shape[-1] - left - right
    inner = rows.narrow(-1, left, columns).clone()
    for at, first, margin in ((0, 0, left), (columns - 1, left + columns, right)):
        if margin:
            beyond = rows.narrow(-1, first, margin).sum(-1, keepdim=True)
            inner.narrow(-1, at, 1).add_(beyond)
    return inner
