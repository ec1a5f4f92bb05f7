"""Run the groups of convolutions of a folded network in few passes over the features.

Convolutions that replicate the border need a margin of one pixel around their features. Memory for
features is allocated with that margin, and ReLU writes inside it: one pass instead of two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmef.nn.blocks import ConvGroup, ConvNormAct, follow


class Framed:
    """Features ``(1, C, rows, W)`` with a margin of replicated border pixels.

    Args:
        margin: 1 for convolutions that replicate the border, 0 for those that add zeros themselves.
    """

    def __init__(self, like: Tensor, rows: int, width: int, margin: int) -> None:
        shape = 1, rows + 2 * margin, width + 2 * margin, like.shape[1]
        self._whole = like.new_empty(shape).permute(0, 3, 1, 2)
        self._rows, self._width, self._margin = rows, width, margin

    def fill(self, features: Tensor, begin: int = 0) -> None:
        """Write ReLU of ``features`` into the rows from ``begin`` on."""
        columns = self._whole.narrow(-1, self._margin, self._width)
        out = columns.narrow(-2, self._margin + begin, features.shape[-2])
        torch.clamp(inner_columns(features, self._width), min=0, out=out)

    def replicate(self) -> None:
        """Fill the margin; all rows must have been written."""
        if self._margin:
            whole = self._whole
            whole[..., 0] = whole[..., 1]
            whole[..., -1] = whole[..., -2]
            whole[..., 0, :] = whole[..., 1, :]
            whole[..., -1, :] = whole[..., -2, :]

    def rows(self, begin: int, end: int) -> Tensor:
        """Return rows with a margin of neighbouring rows, at the border of replicated ones."""
        return self._whole[..., begin : end + 2 * self._margin, :]

    def doubled(self, begin: int, end: int, upsampling: str) -> Tensor:
        """Return rows of the features at double size, with a margin.

        ``begin`` and ``end`` must be even. The margin of the columns is twice as wide as that of
        the rows.
        """
        window = follow(self.rows(begin // 2, end // 2), upsampling)
        return window.narrow(-2, self._margin, end - begin + 2 * self._margin)


def convolve(group: nn.Module, features: Tensor, width: int, margin: int) -> Tensor:
    """Return the result of the last convolution of a group, before its ReLU.

    Args:
        features: ``(1, C, rows, W)``, with a margin of ``margin`` rows and as many columns or more.
        width: columns without their margin.
    """
    assert isinstance(group, ConvGroup)
    *before, last = group
    for block in before:
        framed = _convolved(block, features)
        frame = Framed(framed, framed.shape[-2], width, margin)
        frame.fill(framed)
        frame.replicate()
        features = frame.rows(0, framed.shape[-2])
    return inner_columns(_convolved(last, features), width)


def _convolved(block: nn.Module, features: Tensor) -> Tensor:
    """Return convolution and normalisation of a block, without its ReLU."""
    assert isinstance(block, ConvNormAct)
    convolution, norm, _ = block
    return norm(convolution(features))


def inner_columns(features: Tensor, width: int) -> Tensor:
    """Return the middle ``width`` columns."""
    return features.narrow(-1, (features.shape[-1] - width) // 2, width)
