"""Measure the time of the phases of a step."""

from __future__ import annotations

import time
from itertools import pairwise

import torch

PHASES = ("data", "network", "loss", "optimizer")


class PhaseTimer:
    """Measure phases that follow one another, on a GPU with events, so that the host never waits.

    The forward and the backward pass of a phase are added up.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._phases: list[str] = []
        self._times: list[float] = []
        self._events: list[torch.cuda.Event] = []

    def start(self, phase: str) -> None:
        """End the running phase and start another."""
        self._phases.append(phase)
        if self._on_gpu:
            self._events.append(torch.cuda.Event(enable_timing=True))
            self._events[-1].record()
        else:
            self._times.append(time.perf_counter())

    def finish(self) -> dict[str, float]:
        """End the last phase, and return the seconds of each since the last call."""
        self.start("")
        if self._on_gpu:
            torch.cuda.synchronize()
            first = self._events[0]
            self._times = [first.elapsed_time(event) / 1000 for event in self._events]
        seconds = dict.fromkeys(PHASES, 0.0)
        for phase, (begin, end) in zip(self._phases, pairwise(self._times), strict=False):
            seconds[phase] += end - begin
        for marks in (self._phases, self._times, self._events):
            marks.clear()
        return seconds
