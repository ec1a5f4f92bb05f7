"""Encode parts of a file in threads, and write them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fastmef.data.ahead import available_cores

_MOST_THREADS = 8


class OrderedEncoder:
    """Encode parts on all cores and write them in the order in which they are submitted.

    Args:
        encode: returns the bytes of a part; it runs in several threads.
        write: writes these bytes; it runs in the thread that submits parts.
    """

    def __init__(self, encode: Callable[[Any], Any], write: Callable[[Any], None]) -> None:
        self._encode, self._write = encode, write
        self._threads = min(_MOST_THREADS, available_cores())
        self.most_parts = 2 * self._threads + 1
        """The most parts that are in memory, including the one that is being submitted."""
        self._pool: ThreadPoolExecutor | None = None
        self._encoding: deque[Future[Any]] = deque()

    def submit(self, part: Any) -> None:
        """Let a thread encode a part, which must not change any more; wait if the queue is full."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        if len(self._encoding) == 2 * self._threads:
            self._write_oldest()
        self._encoding.append(self._pool.submit(self._encode, part))

    def finish(self) -> None:
        """Write the remaining parts and end the threads."""
        while self._encoding:
            self._write_oldest()
        self.stop()

    def stop(self) -> None:
        """Drop the remaining parts and end the threads."""
        self._encoding.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _write_oldest(self) -> None:
        self._write(self._encoding.popleft().result())
