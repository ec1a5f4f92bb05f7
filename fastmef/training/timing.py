"""Where the time of a step goes."""

from __future__ import annotations

import time

import torch

PHASES = ("data", "network", "loss", "optimizer")


class PhaseTimer:
    """Measure phases that follow one another, on a GPU by events, so that nothing waits.

    Forward and backward pass of a phase count together.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []

    def start(self, phase: str) -> None:
        """End the phase that runs, and begin another."""
        if not self._on_gpu:
            self._marks.append((phase, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((phase, event))

    def finish(self) -> dict[str, float]:
        """End the last phase, and return the seconds of each since the last call."""
        self.start("")
        if self._on_gpu:
            torch.cuda.synchronize()
        seconds = dict.fromkeys(PHASES, 0.0)
        for (phase, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            seconds[phase] += _between(begin, end)
        self._marks.clear()
        return seconds


def _between(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    return begin.elapsed_time(end) / 1000  # type: ignore[union-attr]
