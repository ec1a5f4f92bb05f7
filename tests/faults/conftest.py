"""Fixtures for fault injection: a sample of faults, or all with ``--long-faults``.

``FASTMEF_FAULT_SEED`` selects another sample; it determines every random choice. The numbers of
injected faults are printed at the end of the run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SEED = int(os.environ.get("FASTMEF_FAULT_SEED", "0"))


@pytest.fixture
def rng(request) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def effort(request) -> Callable[[int, int], int]:
    """Return a function that selects how often a fault is tried.

    It returns its first argument, or its second with ``--long-faults``.
    """
    return lambda short, long: long if request.config.getoption("--long-faults") else short


@pytest.fixture
def count(request) -> Callable[[str], None]:
    """Return a function that prints a line after the tests."""
    return request.config.fault_counts.append


@pytest.fixture
def changed_bytes(effort, rng, count) -> Callable[[Path, str], Iterator[None]]:
    """Return a function that changes a byte of a safetensors file in every iteration.

    Half of the changed bytes are in the header. Afterwards the file is as it was.
    """

    def change(path: Path, name: str) -> Iterator[None]:
        whole = path.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        places = range(len(whole))
        if (tries := effort(300, len(whole))) < len(whole):
            places = {*rng.sample(range(header), tries // 2), *rng.sample(places, tries // 2)}
        for place in places:
            data = bytearray(whole)
            data[place] ^= rng.randrange(1, 256)
            path.write_bytes(data)
            yield
        path.write_bytes(whole)
        count(f"{len(places)} changed bytes of a {name} of {len(whole)} bytes")

    return change
