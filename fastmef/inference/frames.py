"""The frames of a bracket as windows of rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.inference.arrays import ArraySink, ArraySource, Pixels

_TORCH = {
    np.dtype(np.uint8): torch.uint8,
    np.dtype(np.uint16): torch.uint16,
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}


class Window(NamedTuple):
    """Rows of the frames of a bracket."""

    images: Tensor
    """``(1, K, C, rows, W)``, overwritten by the next call."""
    valid: Tensor | None
    """bool ``(1, K, rows, W)``, or ``None`` where all pixels of all frames are."""
    alpha: NDArray[np.bool_] | None
    """``(rows, W)``: where any frame is valid by its own alpha; ``None`` if none has alpha."""


class Frames:
    """K sources of one size, channels and dtype, with an optional mask for each.

    Args:
        dtype: that the rows are brought to: that of the sources, if it is ``None``, or one with
            more levels.

    Windows of rows may overlap. In a sweep from top to bottom every row of a source that decodes
    while it is read is asked for once.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        masks: Sequence[NDArray[np.bool_] | None] | None = None,
        device: torch.device | str = "cpu",
        dtype: Any = None,
    ) -> None:
        first = sources[0]
        self.height, self.width, self.channels = first.height, first.width, first.channels
        self.stored = np.dtype(first.dtype if dtype is None else dtype)
        self.dtype = _TORCH[self.stored]
        self.sources, self.masks, self.device = list(sources), masks, torch.device(device)
        has_masks = masks is not None and any(mask is not None for mask in masks)
        self.has_alpha = any(source.has_alpha for source in sources)
        self.masked = has_masks or self.has_alpha
        self._readers = [_Reader(source) for source in sources]
        self._stack = torch.empty(0, dtype=self.dtype)
        self._result = torch.empty(0, dtype=self.dtype)

    def __len__(self) -> int:
        return len(self.sources)

    def subset(self, kept: Sequence[int]) -> Frames:
        masks = None if self.masks is None else [self.masks[k] for k in kept]
        return Frames([self.sources[k] for k in kept], masks, self.device, self.stored)

    def decode(self) -> None:
        """Decode files that are decoded as a whole, on all threads."""
        whole = [s for s in self.sources if not (s.streams or isinstance(s, ArraySource))]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(lambda source: source.rows(0, 1), whole))

    def frame(self, k: int, begin: int, end: int) -> Tensor:
        """Return rows of one frame, ``(1, 1, C, rows, W)``, which must not be written to."""
        rows, _ = self._readers[k].window(begin, end)
        if rows.dtype != self.stored:
            deeper = np.empty(rows.shape, self.stored)
            _deepen(rows, deeper)
            rows = deeper
        return as_tensor(rows).to(self.device).permute(2, 0, 1)[None, None]

    def window(self, order: Sequence[int], begin: int, end: int) -> Window:
        """Return rows of the frames in this order, and where they are valid."""
        shape = len(order), end - begin, self.width, self.channels
        count = int(np.prod(shape))
        if self._stack.numel() < count:
            self._stack = torch.empty(count, dtype=self.dtype)
        stack = self._stack[:count].view(shape)
        valid = torch.ones(shape[:3], dtype=torch.bool) if self.masked else None
        opaque = torch.zeros(shape[1:3], dtype=torch.bool) if self.has_alpha else None
        for position, k in enumerate(order):
            rows, alpha = self._readers[k].window(begin, end)
            if rows.dtype == self.stored:
                stack[position].copy_(as_tensor(rows))
            else:
                _deepen(rows, stack[position].numpy())
            if valid is None:
                continue
            if alpha is not None:
                valid[position] &= as_tensor(alpha)
            if opaque is not None:
                opaque |= valid[position]
            mask = None if self.masks is None else self.masks[k]
            if mask is not None:
                valid[position] &= as_tensor(mask[begin:end])
        moved = stack.to(self.device).permute(0, 3, 1, 2)[None]
        if valid is not None:
            valid = valid.to(self.device)[None]
        return Window(moved, valid, None if opaque is None else opaque.numpy())

    def result(self, sink: Any, rows: int) -> Tensor:
        """Return memory ``(1, C, rows, W)`` for the next rows of the result.

        It is the sink's own where that is an array in main memory.
        """
        if isinstance(sink, ArraySink) and self.device.type == "cpu":
            return as_tensor(sink.next_rows(rows)).permute(2, 0, 1)[None]
        shape = rows, self.width, self.channels
        if self._result.shape != shape:
            self._result = torch.empty(shape, dtype=self.dtype, device=self.device)
        return self._result.permute(2, 0, 1)[None]


class _Reader:
    """Rows of one source. Those that the next window shares with this one are kept."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._direct = not source.streams
        self._begin = self._end = 0
        self._rows: NDArray[Any] | None = None
        self._alpha: NDArray[np.bool_] | None = None

    def window(self, begin: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        if self._direct:
            return self._source.rows(begin, end)
        if self._rows is None or not self._begin <= begin <= self._end:
            self._rows, self._alpha = self._source.rows(begin, end)
        elif end > self._end:
            rows, alpha = self._source.rows(self._end, end)
            kept = slice(begin - self._begin, None)
            self._rows = np.concatenate((self._rows[kept], rows))
            if alpha is not None and self._alpha is not None:
                self._alpha = np.concatenate((self._alpha[kept], alpha))
        else:
            kept = slice(begin - self._begin, end - self._begin)
            alpha = self._alpha
            return self._rows[kept], None if alpha is None else alpha[kept]
        self._begin, self._end = begin, end
        return self._rows, self._alpha


def _deepen(rows: Pixels, out: Pixels) -> None:
    """Fill ``out``, of more levels or floating point, with the same values."""
    highest = np.iinfo(rows.dtype).max if rows.dtype.kind == "u" else 1
    if out.dtype.kind == "f":
        np.divide(rows, out.dtype.type(highest), out=out, dtype=out.dtype)
    else:
        factor = out.dtype.type(np.iinfo(out.dtype).max // highest)
        np.multiply(rows, factor, out=out, dtype=out.dtype)


def as_tensor(array: Pixels) -> Tensor:
    """Return the array as a tensor that must not be written to, without a copy where that can be.

    PyTorch warns of arrays that cannot be written to, and takes no negative strides.
    """
    sizes = [stride % array.itemsize for stride in array.strides]
    if any(sizes) or min(array.strides, default=0) < 0:
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        described = {**array.__array_interface__, "data": (array.ctypes.data, False)}
        array = np.asarray(SimpleNamespace(__array_interface__=described, owner=array))
    return torch.from_numpy(array)
