"""Decode files in threads of their own while the caller does other work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fastmef.errors import InputError

if TYPE_CHECKING:
    from fastmef.data.sources import Source


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def decoding_ahead(sources: Sequence[Source], memory: int) -> Iterator[None]:
    """Decode whole files that the caller will read, while the ``with`` block runs.

    Decoders release the GIL, so the block is hardly slower. If rows are read while a thread decodes
    their source, the reader waits for that thread. Damage is reported when rows are read.

    Args:
        sources: the sources of a bracket. Sources that decode strips of rows are skipped.
        memory: bytes that may be used; nothing is decoded if the images need more.
    """
    whole = [source for source in sources if not source.streams]
    if sum(source.resident_bytes for source in whole) > memory:
        yield
        return
    # One core is the block's.
    with ThreadPoolExecutor(max(1, min(len(whole), available_cores() - 1))) as pool:
        try:
            for source in whole:
                pool.submit(_decode, source)
            yield
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(source: Source) -> None:
    """Decode a source; it reports errors again when rows are read."""
    with suppress(InputError):
        source.rows(0, 1)
