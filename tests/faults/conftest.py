"""Fixtures for fault injection: a sample of faults, or all with ``--long-faults``.

``FASTMEF_FAULT_SEED`` selects another sample; it determines every random choice. The numbers of
injected faults are printed at the end of the run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

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
