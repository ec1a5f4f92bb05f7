"""Strips of rows on their way to a GPU and back, while it computes on the strips before.

Kernels run on the current stream, here ``"compute"``. Copies run on streams of their own, from and
to pinned memory. Every buffer exists twice, and events say when it may be used again.
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
        device: of type ``"cuda"``.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copying = {name: torch.cuda.Stream(device) for name in ("upload", "download")}

    def pinned(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the host that copies read and write while the host goes on."""
        return torch.empty(count, dtype=dtype, pin_memory=True)

    def memory(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the device, which kernels that were launched may still read."""
        return torch.empty(count, dtype=dtype, device=self._device)

    def copy(self, target: Tensor, source: Tensor, stream: str) -> None:
        """Copy when the stream comes to it."""
        with torch.cuda.stream(self._copying[stream]):
            target.copy_(source, non_blocking=True)

    def record(self, stream: str) -> Any:
        """Return an event that happens when what the stream was given is done."""
        event = torch.cuda.Event()
        event.record(self._stream(stream))
        return event

    def wait(self, stream: str, event: Any) -> None:
        """Let the stream wait for an event, and the host not."""
        self._stream(stream).wait_event(event)

    def finish(self, event: Any) -> None:
        """Wait for an event."""
        event.synchronize()

    def _stream(self, name: str) -> torch.cuda.Stream:
        if name == "compute":
            return torch.cuda.current_stream(self._device)
        return self._copying[name]


class _Slot:
    """A buffer on the device and one of the host, of the same size."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams
        self._host = self._device = torch.empty(0)
        self.copied: Any = None
        """When the last copy between the two is done."""
        self.used: Any = None
        """When the kernels are done that had the device's buffer."""

    def fit(self, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return both buffers in this shape. They are made anew where they are too small."""
        count = int(np.prod(shape))
        if self._host.numel() < count or self._host.dtype != dtype:
            self._host = self._streams.pinned(count, dtype)
            self._device = self._streams.memory(count, dtype)
            # Kernels may still use this memory for what it was before.
            self.copied, self.used = None, self._streams.record("compute")
        return self._host[:count].view(shape), self._device[:count].view(shape)


class Upload:
    """Arrays to the device. What was returned is valid until the call after the next one.

    Args:
        streams: such as :class:`CudaStreams`.
    """

    def __init__(self, streams: Any) -> None:
        self._streams = streams
        self._slots = deque((_Slot(streams), _Slot(streams)))

    def __call__(self, shape: Shape, dtype: torch.dtype, fill: Callable[[Tensor], Any]) -> Tensor:
        """Return a tensor of the device with what ``fill`` writes into one of the host."""
        streams = self._streams
        # The kernels of the array before have been launched when the next one is asked for.
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
    """Strips of the result from the device to a sink, each while the next one is computed.

    Args:
        streams: such as :class:`CudaStreams`.
        sink: gets rows ``(n, W, C)``, which it has read when it returns.
    """

    def __init__(self, streams: Any, sink: Any) -> None:
        self._streams, self._sink = streams, sink
        self._slots = deque((_Slot(streams), _Slot(streams)))
        self._current: tuple[_Slot, Tensor, Tensor] | None = None
        self._waiting: tuple[_Slot, Tensor, NDArray[np.bool_] | None] | None = None

    def target(self, shape: Shape, dtype: torch.dtype) -> Tensor:
        """Return memory of the device for the next strip ``(n, W, C)``."""
        slot = self._slots[0]
        self._slots.rotate(-1)
        # Of the two buffers this is the one whose strip has been written.
        host, device = slot.fit(shape, dtype)
        self._current = slot, host, device
        return device

    def deliver(self, alpha: NDArray[np.bool_] | None) -> None:
        """Copy the strip, whose kernels have been launched, and write the one before."""
        assert self._current is not None
        slot, host, device = self._current
        self._streams.wait("download", self._streams.record("compute"))
        self._streams.copy(host, device, "download")
        slot.copied = self._streams.record("download")
        self.finish()
        self._waiting = slot, host, alpha

    def finish(self) -> None:
        """Write the strip that waits, if there is one."""
        if self._waiting is not None:
            slot, host, alpha = self._waiting
            self._waiting = None
            self._streams.finish(slot.copied)
            self._sink.write_rows(host.numpy(), alpha)
