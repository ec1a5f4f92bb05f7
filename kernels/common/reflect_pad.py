"""Reflect padding and its backward pass, for kernels that do not support this border."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .windows import Windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def reflect_pad(images: Tensor, windows: Windows) -> tuple[Tensor, Windows]:
    """Pad ``(N, H, W)`` so that there is one ``"valid"`` window around every pixel."""
    # torch is imported here because compiling the kernels needs no torch.
    import torch.nn.functional as F

    height, width = images.shape[-2:]
    top, left = len(windows.taps_y) // 2, len(windows.taps_x) // 2
    inside = windows._replace(padded=False, map_height=height, map_width=width)
    return F.pad(images, (left, left, top, top), mode="reflect"), inside


def reflect_pad_backward(gradient: Tensor, windows: Windows, dtype: torch.dtype) -> Tensor:
    """Compute the backward pass of :func:`reflect_pad`, contiguous. Overwrites ``gradient``.

    On a GPU, PyTorch's backward pass of this padding adds with atomics, in any order.
    """
    for dim, margin in ((-2, len(windows.taps_y) // 2), (-1, len(windows.taps_x) // 2)):
        size = gradient.shape[dim] - 2 * margin
        before = gradient.narrow(dim, 0, margin).flip(dim)
        after = gradient.narrow(dim, margin + size, margin).flip(dim)
        gradient = gradient.narrow(dim, margin, size)
        if margin:
            gradient.narrow(dim, 1, margin).add_(before)
            gradient.narrow(dim, size - 1 - margin, margin).add_(after)
    return gradient.to(dtype).contiguous()
