"""The groups of convolutions of a folded network, without a pass over the features between two.

Convolutions that replicate the border need a margin of one pixel around their features. They run
over features and margin, with zeros around both, so that their output has a margin as well. What
they leave in it is wrong and is overwritten: a pass over the margin instead of one over the whole.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmef.nn.blocks import ConvGroup, ConvNormAct, follow


class Framed:
    """Features ``(1, C, rows, W)``, channels last, with a margin of replicated border pixels.

    Args:
        margin: 1 for convolutions that replicate the border, 0 for those that add zeros themselves.
        memory: a flat tensor that is long enough; what is in it is overwritten.
    """

    def __init__(self, memory: Tensor, channels: int, rows: int, width: int, margin: int) -> None:
        size = rows + 2 * margin, width + 2 * margin
        whole = memory[: channels * math.prod(size)].view(1, *size, channels)
        self._whole = whole.permute(0, 3, 1, 2)
        self._width, self._margin = width, margin

    def fill(self, features: Tensor, begin: int = 0) -> None:
        """Write rows, with a margin of columns, from row ``begin`` on."""
        self._whole.narrow(-2, self._margin + begin, features.shape[-2]).copy_(features)

    def fill_pooled(self, features: Tensor, begin: int) -> None:
        """Write the 2×2 maxima of an even number of rows, with a margin of columns.

        Two maxima are computed in a third of the time of ``max_pool2d``, which notes where each is.
        """
        columns = features.narrow(-1, self._margin, 2 * self._width)
        rows = torch.maximum(columns[..., ::2, :], columns[..., 1::2, :])
        out = self._whole.narrow(-2, self._margin + begin, rows.shape[-2])
        out = out.narrow(-1, self._margin, self._width)
        torch.maximum(rows[..., ::2], rows[..., 1::2], out=out)

    def replicate(self) -> None:
        """Fill the margin, when all rows are there."""
        replicate_into_margin(self._whole, self._width, self._margin)

    def rows(self, begin: int, end: int) -> Tensor:
        """Return rows with a margin: of their neighbours, at the border of the replicated rows."""
        return self._whole[..., begin : end + 2 * self._margin, :]

    def doubled(self, begin: int, end: int, upsampling: str) -> Tensor:
        """Return rows, both even, of the features at double size, with a margin.

        The margin's columns are twice as wide as its rows are high.
        """
        window = follow(self.rows(begin // 2, end // 2), upsampling)
        return window.narrow(-2, self._margin, end - begin + 2 * self._margin)


def replicate_into_margin(features: Tensor, width: int, margin: int) -> None:
    """Overwrite the pixels around features of ``width`` columns by those beside them.

    The margin may have further columns, which stay.
    """
    if margin:
        left = (features.shape[-1] - width) // 2
        features[..., left - 1] = features[..., left]
        features[..., left + width] = features[..., left + width - 1]
        features[..., 0, :] = features[..., 1, :]
        features[..., -1, :] = features[..., -2, :]


def extended(
    planes: Callable[[Tensor], object],
    like: Tensor,
    shape: tuple[int, int, int],
    columns: tuple[int, int],
    rows: tuple[int, int],
) -> Tensor:
    """Return planes ``(1, C, H, W)`` continued by their outermost pixels, channels last.

    Args:
        planes: fills a view of the result with them.
        like: has the dtype and device of the result.
        shape: ``(C, H, W)``.
        columns: how many to add on the left and on the right.
        rows: how many to add above and below.
    """
    channels, height, width = shape
    (left, right), (top, bottom) = columns, rows
    size = top + height + bottom, left + width + right
    out = like.new_empty((1, *size, channels)).permute(0, 3, 1, 2)
    last_row, last_column = top + height - 1, left + width - 1
    planes(out[..., top : last_row + 1, left : last_column + 1])
    out[..., :left] = out[..., left : left + 1]
    out[..., last_column + 1 :] = out[..., last_column : last_column + 1]
    out[..., :top, :] = out[..., top : top + 1, :]
    out[..., last_row + 1 :, :] = out[..., last_row : last_row + 1, :]
    return out


def inner_rows(features: Tensor, begin: int, end: int, margin: int) -> Tensor:
    """Return rows of features with a margin; its columns stay."""
    return features.narrow(-2, margin + begin, end - begin)


def inner_columns(features: Tensor, width: int) -> Tensor:
    """Return the middle ``width`` columns."""
    return features.narrow(-1, (features.shape[-1] - width) // 2, width)


def convolve(group: nn.Module, features: Tensor, width: int, margin: int) -> Tensor:
    """Return the features after a group, with a margin that is wrong.

    Args:
        features: with a margin of ``margin`` rows, and of as many columns or twice as many.
        width: columns without the margin.
    """
    assert isinstance(group, ConvGroup)
    first, *others = group
    return convolve_on(others, _convolved(first, features, width, margin), width, margin)


def convolve_on(blocks: Sequence[nn.Module], features: Tensor, width: int, margin: int) -> Tensor:
    """Return the features after further blocks of a group; as :func:`convolve`.

    The margin of ``features``, which is wrong, is overwritten.
    """
    for block in blocks:
        replicate_into_margin(features, width, margin)
        features = _convolved(block, features, width, margin)
    return features


def _convolved(block: nn.Module, features: Tensor, width: int, margin: int) -> Tensor:
    """Return ReLU of a block's convolution, with a margin of ``margin``."""
    assert isinstance(block, ConvNormAct)
    further = (features.shape[-1] - width) // 2 - margin  # columns
    padding = 1, 1 - further
    convolution: Any = block[0]
    norm = block[1]
    if isinstance(norm, nn.Identity):
        return convolve_relu(features, convolution.weight, convolution.bias, padding)
    found = F.conv2d(features, convolution.weight, convolution.bias, padding=padding)
    return F.relu_(norm(found))


def convolve_relu(
    features: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]
) -> Tensor:
    """Return ReLU of a convolution of stride 1, with zeros around the features."""
    if _has_fused_relu(features.device, features.dtype):
        return _fused_relu(features, weight, bias, padding)
    return F.relu_(F.conv2d(features, weight, bias, padding=padding))


def _fused_relu(
    features: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]
) -> Tensor:
    """Convolve by oneDNN, which applies ReLU before it writes a value."""
    operation = torch.ops.mkldnn._convolution_pointwise
    return operation(features, weight, bias, padding, (1, 1), (1, 1), 1, "relu", [], "")


@functools.cache
def _has_fused_relu(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether :func:`_fused_relu` can be used: PyTorch does not document it."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    features = torch.linspace(-1, 1, 32 * 6 * 7, device=device).view(1, 6, 7, 32).to(dtype)
    weight = torch.linspace(-1, 1, 16 * 32 * 9, device=device).view(16, 32, 3, 3).to(dtype)
    features, bias = features.permute(0, 3, 1, 2), weight[:, 0, 0, 0]
    expected = F.conv2d(features, weight, bias, padding=(1, 0)).relu_()
    try:
        found = _fused_relu(features, weight, bias, (1, 0))
    except (AttributeError, RuntimeError):
        return False
    unit = torch.finfo(dtype).eps * float(expected.max())
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 4 * unit
