"""Read the frames of a bracket as windows of rows."""

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
from fastmef.inference.transfer import CudaStreams, Delivery, Upload

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
    """bool ``(1, K, rows, W)``; ``None`` if all pixels of all frames are valid."""
    alpha: NDArray[np.bool_] | None
    """``(rows, W)``, true where the alpha of any frame marks a valid pixel; ``None`` if no frame
    has alpha."""


class Frames:
    """K sources of one size, number of channels and dtype, with an optional mask for each.

    Windows of rows may overlap. In a sweep from top to bottom, every row of a source that decodes
    while it is read is read once.

    Args:
        dtype: the rows are converted to this dtype, which must have at least as many levels as that
            of the sources; ``None`` keeps theirs.
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
        self.sources, self.device = list(sources), torch.device(device)
        self.masks = None if masks is None else [_restricting(mask) for mask in masks]
        has_masks = self.masks is not None and any(mask is not None for mask in self.masks)
        self.has_alpha = any(source.has_alpha for source in sources)
        self.masked = has_masks or self.has_alpha
        self._deepens = any(np.dtype(source.dtype) != self.stored for source in sources)
        self._readers = [_Reader(source) for source in sources]
        self._stack = torch.empty(0, dtype=self.dtype)
        self._streams: Any = None
        self._upload: Upload | None = None
        self._upload_masks: Upload | None = None
        if self.device.type == "cuda":
            self.use_streams(CudaStreams(self.device))

    def use_streams(self, streams: Any) -> None:
        """Copy rows to the device, and results back, on ``streams``."""
        self._streams = streams
        self._upload, self._upload_masks = Upload(streams), Upload(streams)

    def __len__(self) -> int:
        return len(self.sources)

    def subset(self, kept: Sequence[int]) -> Frames:
        masks = None if self.masks is None else [self.masks[k] for k in kept]
        return Frames([self.sources[k] for k in kept], masks, self.device, self.stored)

    def decode(self) -> None:
        """Decode the files that cannot be read in strips, on all threads."""
        whole = [s for s in self.sources if not (s.streams or isinstance(s, ArraySource))]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(lambda source: source.rows(0, 1), whole))

    def frame(self, k: int, begin: int, end: int) -> Tensor:
        """Return rows of one frame, ``(1, 1, C, rows, W)``, which must not be written to.

        On a GPU, the call after the next one overwrites them.
        """
        rows, _ = self._readers[k].window(begin, end)
        if self._upload is not None:
            moved = self._upload(rows.shape, self.dtype, lambda out: _fill(rows, out))
        elif rows.dtype == self.stored:
            moved = as_tensor(rows)
        else:
            moved = torch.empty(rows.shape, dtype=self.dtype)
            _fill(rows, moved)
        return moved.permute(2, 0, 1)[None, None]

    def apart(self, order: Sequence[int], begin: int, end: int) -> list[Tensor] | None:
        """Return rows of the frames in this order, ``(1, 1, C, rows, W)`` each, without a copy.

        Returns:
            ``None`` if :meth:`window` must copy them into one tensor: on a GPU, with masks, for
            another dtype than that of the sources, or for sources of different layouts.
        """
        if self.masked or self._upload is not None or self._deepens:
            return None
        rows = [self.frame(k, begin, end) for k in order]
        return rows if len({frame.stride() for frame in rows}) == 1 else None

    def window(self, order: Sequence[int], begin: int, end: int) -> Window:
        """Return rows of the frames in this order, and where they are valid."""
        shape = len(order), end - begin, self.width, self.channels
        read = [self._readers[k].window(begin, end) for k in order]

        def fill(stack: Tensor) -> None:
            for rows, out in zip((rows for rows, _ in read), stack, strict=True):
                _fill(rows, out)

        if self._upload is not None:
            stack = self._upload(shape, self.dtype, fill)
        else:
            count = int(np.prod(shape))
            if self._stack.numel() < count:
                self._stack = torch.empty(count, dtype=self.dtype)
            stack = self._stack[:count].view(shape)
            fill(stack)
        valid = torch.ones(shape[:3], dtype=torch.bool) if self.masked else None
        opaque = torch.zeros(shape[1:3], dtype=torch.bool) if self.has_alpha else None
        for position, k in enumerate(order):
            if valid is None:
                break
            alpha = read[position][1]
            if alpha is not None:
                valid[position] &= as_tensor(alpha)
            if opaque is not None:
                opaque |= valid[position]
            mask = None if self.masks is None else self.masks[k]
            if mask is not None:
                valid[position] &= as_tensor(mask[begin:end])
        moved = stack.permute(0, 3, 1, 2)[None]
        if valid is not None:
            valid = self._moved_mask(valid)[None]
        return Window(moved, valid, None if opaque is None else opaque.numpy())

    def _moved_mask(self, mask: Tensor) -> Tensor:
        """Return the mask on the device of the frames."""
        if self._upload_masks is None:
            return mask
        return self._upload_masks(tuple(mask.shape), mask.dtype, lambda out: out.copy_(mask))

    def delivery(self, sink: Any) -> Delivery | DirectDelivery:
        """Return a delivery of strips of the result from the device of the frames to ``sink``."""
        return DirectDelivery(sink) if self._streams is None else Delivery(self._streams, sink)


class _Reader:
    """Read rows of one source, and keep the rows that the next window shares with this one."""

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


class DirectDelivery:
    """Deliver strips of the result on a CPU to a sink.

    It has the methods of :class:`~fastmef.inference.transfer.Delivery`. If the sink is an array,
    strips are computed in its memory.
    """

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._strip = torch.empty(0)

    def target(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if isinstance(self._sink, ArraySink):
            self._strip = as_tensor(self._sink.next_rows(shape[0]))
        elif self._strip.shape != shape:
            self._strip = torch.empty(shape, dtype=dtype)
        return self._strip

    def deliver(self, alpha: NDArray[np.bool_] | None) -> None:
        self._sink.write_rows(self._strip.numpy(), alpha)

    def finish(self) -> None:
        """Do nothing: every strip was written when it was delivered."""


def _restricting(mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return a mask that excludes pixels, or ``None``: averages by validity round differently."""
    return None if mask is None or bool(mask.all()) else mask


def _fill(rows: Pixels, out: Tensor) -> None:
    """Copy rows into ``out`` in main memory, whose dtype may have more levels."""
    if _TORCH[rows.dtype] == out.dtype:
        out.copy_(as_tensor(rows))
    else:
        _deepen(rows, out.numpy())


def _deepen(rows: Pixels, out: Pixels) -> None:
    """Rescale ``rows`` to the range of ``out``, which has more levels or is floating-point."""
    highest = np.iinfo(rows.dtype).max if rows.dtype.kind == "u" else 1
    if out.dtype.kind == "f":
        np.divide(rows, out.dtype.type(highest), out=out, dtype=out.dtype)
    else:
        factor = out.dtype.type(np.iinfo(out.dtype).max // highest)
        np.multiply(rows, factor, out=out, dtype=out.dtype)


def empty_in_large_pages(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Allocate a large tensor through NumPy.

    NumPy asks Linux for pages of 2 MiB, which cause fewer page faults.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    stored = next(name for name, other in _TORCH.items() if other == dtype)
    return torch.from_numpy(np.empty(shape, stored))


def as_tensor(array: Pixels) -> Tensor:
    """Return the array as a tensor that must not be written to, without a copy if possible.

    PyTorch warns about read-only arrays and does not accept negative strides.
    """
    sizes = [stride % array.itemsize for stride in array.strides]
    if any(sizes) or min(array.strides, default=0) < 0:
        array = np.ascontiguousarray(array)
    if not array.flags.writeable:
        described = {**array.__array_interface__, "data": (array.ctypes.data, False)}
        array = np.asarray(SimpleNamespace(__array_interface__=described, owner=array))
    return torch.from_numpy(array)
