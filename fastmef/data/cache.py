"""Keep decoded photographs in memory, up to a limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray


class Cache:
    """Keep arrays of up to ``limit`` bytes together, and evict the least recently used ones.

    Several threads may use it. Two threads that need the same missing array both load it.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self.hits = self.misses = 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array of a key; load it if it is missing. It must not be written to."""
        with self._lock:
            if key in self._arrays:
                self.hits += 1
                self._arrays.move_to_end(key)
                return self._arrays[key]
            self.misses += 1
        array = load()
        with self._lock:
            if key not in self._arrays and array.nbytes <= self.limit:
                self._arrays[key] = array
                self.bytes += array.nbytes
                while self.bytes > self.limit:
                    _, evicted = self._arrays.popitem(last=False)
                    self.bytes -= evicted.nbytes
        return array
