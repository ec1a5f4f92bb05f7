"""The share of convolutions in a run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench import convolutions


@pytest.fixture
def now(monkeypatch):
    """A clock that plain convolutions move by a second."""
    seconds, convolve = [0.0], F.conv2d

    def slow(*given, **options):
        seconds[0] += 1
        return convolve(*given, **options)

    monkeypatch.setattr(F, "conv2d", slow)
    monkeypatch.setattr(convolutions.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_counts_and_ratio(now):
    """The run takes seven seconds more than its convolutions."""
    small, large = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1)

    def run():
        with torch.no_grad():
            for _ in range(3):
                large(small(torch.rand(1, 1, 4, 4)))
            small(torch.rand(1, 1, 4, 5))
        now[0] += 7

    assert convolutions.measure_share(run) == pytest.approx(
        {"seconds": 14, "convolution_seconds": 7, "ratio": 2}
    )


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_convolutions_with_an_activation_count(now):
    weight, shapes = torch.rand(5, 3, 3, 3), ((1, 3, 8, 9), (1, 3, 8, 9), (1, 3, 10, 9))

    def run():
        for shape in shapes:
            torch.ops.mkldnn._convolution_pointwise(
                torch.rand(shape), weight, None, (1, 1), (1, 1), (1, 1), 1, "relu", [], ""
            )
        now[0] += 6

    assert convolutions.measure_share(run) == pytest.approx(
        {"seconds": 6, "convolution_seconds": 3, "ratio": 2}
    )
