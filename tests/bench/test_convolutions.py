"""The share of convolutions in a run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import convolutions


def test_counts_and_ratio(monkeypatch):
    """A fake clock advances by a second per convolution, and by two more for the run."""
    now = [0.0]
    small, large = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1)
    for module in (small, large):
        module.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1))
    monkeypatch.setattr(convolutions.time, "perf_counter", lambda: now[0])

    def run():
        for _ in range(3):
            large(small(torch.rand(1, 1, 4, 4)))
        small(torch.rand(1, 1, 4, 5))
        now[0] += 7

    assert convolutions.measure_share(run) == pytest.approx(
        {"seconds": 14, "convolution_seconds": 7, "ratio": 2}
    )
