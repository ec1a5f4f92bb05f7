"""Faults are injected in samples, or with ``--long-faults`` in the numbers of the goal.

``FASTMEF_FAULT_SEED`` gives another sample; every random choice follows from it. What was tried is
counted, and the counts are printed at the end of the run.
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
    """How often a fault is tried: the first number in CI, the second with ``--long-faults``."""
    return lambda short, long: long if request.config.getoption("--long-faults") else short


@pytest.fixture
def count(request) -> Callable[[str], None]:
    """Print a line after the tests."""
    return request.config.fault_counts.append
