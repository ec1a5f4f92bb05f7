"""Measure free and used memory, and convert sizes from and to text."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

from fastmef.errors import InputError, shown

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
# Files with limit and use of a container's own Linux control group, in versions 2 and 1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_memory() -> int:
    """Return how many bytes can be allocated without swapping or exceeding a container's limit."""
    free = psutil.virtual_memory().available
    for limit, use in _CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(use).read_text()))
        except (OSError, ValueError):  # no such group, or "max", which means no limit
            continue
    return max(0, free)


def used_memory() -> int:
    """Return the bytes of main memory that this process uses now."""
    return psutil.Process().memory_info().rss


def peak_memory() -> int | None:
    """Return the most bytes of main memory that this process has used; ``None`` on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def usable_memory(limit: int | float | str | None) -> int:
    """Return how many bytes this process may still allocate.

    Args:
        limit: limit for all memory of the process, a size for :func:`parse_memory`; ``None``
            allows half of what is free.
    """
    return available_memory() // 2 if limit is None else parse_memory(limit) - used_memory()


def parse_memory(size: int | float | str) -> int:
    """Return a size such as ``2e9``, ``"2GB"``, ``"600M"`` or ``"1.5 GiB"`` in bytes.

    Raises:
        InputError: ``size`` is not a size, or not above 0.
    """
    number: float = 0
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match:
            value, unit, binary = match.groups()
            steps = "KMGT".find(unit.upper()) + 1 if unit else 0
            number = float(value) * (1024**steps if binary else 1000**steps)
    elif isinstance(size, (int, float)) and not isinstance(size, bool):
        number = size
    if not 1 <= number < float("inf"):
        raise InputError(f"memory must be a size such as 2GB or 600MB, got {shown(size)}")
    return int(number)


def format_memory(size: int) -> str:
    """Return a number of bytes for people, such as ``"1.53 GB"`` or ``"612 MB"``."""
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
