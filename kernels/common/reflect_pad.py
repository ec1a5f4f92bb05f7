"""Reflect padding and its backward pass: the kernels know no such border."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .windows import Windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def reflect_pad(images: Tensor, windows: Windows) -> tuple[Tensor, Windows]:
    """Pad ``(N, H, W)`` so that the ``"valid"`` windows of the result are around every pixel."""
    # Not at the top: compiling the kernels needs no torch.
    import torch.nn.functional as F

    height, width = images.shape[-2:]
    top, left = len(windows.taps_y) // 2, len(windows.taps_x) // 2
    inside = windows._replace(padded=False, map_height=height, map_width=width)
    return F.pad(images, (left, left, top, top), mode="reflect"), inside


def reflect_pad_backward(gradient: Tensor, windows: Windows, dtype: torch.dtype) -> Tensor:
    """Backward of :func:`reflect_pad`, contiguous. Overwrites ``gradient``.

    torch's own backward pass of this padding adds with atomics on a GPU, in any order.
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
