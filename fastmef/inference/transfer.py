"""Copy strips of rows to a GPU and back while it computes on earlier strips.

Kernels run on the current stream, here called ``"compute"``. Copies run on streams of their own,
from and to pinned memory. Every buffer exists twice, and events tell when it may be used again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shape = tuple[int, ...]


class CudaStreams:
    """Streams, events and memory of a GPU.

    Args:
        device: a device of type ``"cuda"``.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copying = {name: torch.cuda.Stream(device) for name in ("upload", "download")}

    def pinned(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return pinned host memory, which asynchronous copies read and write."""
        return torch.empty(count, dtype=dtype, pin_memory=True)

    def memory(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the device. Kernels launched earlier may still read it."""
        return torch.empty(count, dtype=dtype, device=self._device)

    def copy(self, target: Tensor, source: Tensor, stream: str) -> None:
        """Enqueue a copy on a stream."""
        with torch.cuda.stream(self._copying[stream]):
            target.copy_(source, non_blocking=True)

    def record(self, stream: str) -> Any:
        """Return an event that is complete when all work enqueued on the stream so far is done."""
        event = torch.cuda.Event()
        event.record(self._stream(stream))
        return event

    def wait(self, stream: str, event: Any) -> None:
        """Make the stream wait for an event; the host does not wait."""
        self._stream(stream).wait_event(event)

    def finish(self, event: Any) -> None:
        """Make the host wait for an event."""
        event.synchronize()

    def _stream(self, name: str) -> torch.cuda.Stream:
        if name == "compute":
            return torch.cuda.current_stream(self._device)
        return self._copying[name]


class _Slot:
    """A buffer on the device and one on the host, of the same size."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams
        self._host = self._device = torch.empty(0)
        self.copied: Any = None
        """Event after the last copy between the two buffers."""
        self.used: Any = None
        """Event after the kernels that used the device's buffer."""

    def fit(self, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the host's and the device's buffer in this shape; grow them if necessary."""
        count = int(np.prod(shape))
        if self._host.numel() < count or self._host.dtype != dtype:
            self._host = self._streams.pinned(count, dtype)
            self._device = self._streams.memory(count, dtype)
            # Kernels may still use this memory, which the allocator has taken from other tensors.
            self.copied, self.used = None, self._streams.record("compute")
        return self._host[:count].view(shape), self._device[:count].view(shape)


class Upload:
    """Copy arrays to the device. A returned tensor is valid until the call after the next one.

    Args:
        streams: such as :class:`CudaStreams`.
    """

    def __init__(self, streams: Any) -> None:
        self._streams = streams
        self._slots = deque((_Slot(streams), _Slot(streams)))

    def __call__(self, shape: Shape, dtype: torch.dtype, fill: Callable[[Tensor], Any]) -> Tensor:
        """Return a device tensor with the values that ``fill`` writes into a host tensor."""
        streams = self._streams
        # The caller has launched the kernels on the previous tensor before it asks for this one.
        self._slots[-1].used = streams.record("compute")
        slot = self._slots[0]
        self._slots.rotate(-1)
        if slot.copied is not None:
            streams.finish(slot.copied)
        host, device = slot.fit(shape, dtype)
        fill(host)
        if slot.used is not None:
            streams.wait("upload", slot.used)
        streams.copy(device, host, "upload")
        slot.copied = streams.record("upload")
        streams.wait("compute", slot.copied)
        return device


class Delivery:
    """Deliver strips of the result from the device to a sink while the next one is computed.

    Args:
        streams: such as :class:`CudaStreams`.
        sink: its ``write_rows`` gets rows ``(n, W, C)`` and must not keep them.
    """

    def __init__(self, streams: Any, sink: Any) -> None:
        self._streams, self._sink = streams, sink
        self._slots = deque((_Slot(streams), _Slot(streams)))
        self._current: tuple[_Slot, Tensor, Tensor] | None = None
        self._waiting: tuple[_Slot, Tensor, NDArray[np.bool_] | None] | None = None

    def target(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Return device memory for the next strip ``(n, W, C)``."""
        slot = self._slots[0]
        self._slots.rotate(-1)
        # The strip of this one of the two buffers has been written.
        host, device = slot.fit(shape, dtype)
        self._current = slot, host, device
        return device

    def deliver(self, alpha: NDArray[np.bool_] | None) -> None:
        """Enqueue the copy of the strip, whose kernels are launched; write the strip before it."""
        assert self._current is not None
        slot, host, device = self._current
        self._streams.wait("download", self._streams.record("compute"))
        self._streams.copy(host, device, "download")
        slot.copied = self._streams.record("download")
        self.finish()
        self._waiting = slot, host, alpha

    def finish(self) -> None:
        """Write the last strip that was delivered, if it is not written yet."""
        if self._waiting is not None:
            slot, host, alpha = self._waiting
            self._waiting = None
            self._streams.finish(slot.copied)
            self._sink.write_rows(host.numpy(), alpha)
