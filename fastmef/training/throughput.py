"""Measure how fast a training is, and on what its time is spent."""

from __future__ import annotations

from collections import deque
from typing import Any

from fastmef.training.timing import PHASES

_STEPS = 200  # number of latest steps that are averaged


class Throughput:
    """Add up the records of the latest steps."""

    def __init__(self) -> None:
        self._steps: deque[dict[str, Any]] = deque(maxlen=_STEPS)

    def add(self, record: dict[str, Any]) -> None:
        self._steps.append(record)

    @property
    def patches_per_second(self) -> float:
        """Patches of all processes; a bracket counts once."""
        seconds = sum(record["seconds"] for record in self._steps)
        return sum(record["patches"] for record in self._steps) / seconds if seconds else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Share of each of :data:`~fastmef.training.timing.PHASES` in the time of a step."""
        seconds = sum(record["seconds"] for record in self._steps) or 1.0
        return {
            phase: sum(record["times"][phase] for record in self._steps) / seconds
            for phase in PHASES
        }
