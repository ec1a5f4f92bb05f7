"""The probe of precision: alternating steps, of which the median decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastmef.training import precision


@pytest.mark.parametrize(
    "times, loss, chosen",
    [
        ([1.0] * 5, 1.0, "bfloat16"),
        ([1.9] * 5, 1.0, "float32"),  # a gain of 5 % is not worth the rounding
        ([1.0, 9.0, 1.0, 9.0, 1.0], 1.0, "bfloat16"),  # two steps were disturbed
        ([0.1, 9.0, 0.1, 9.0, 9.0], 1.0, "float32"),  # the fastest step says nothing
        ([1.0] * 5, 1.1, "float32"),
    ],
)
def test_median_of_alternating_steps_decides(
    monkeypatch: pytest.MonkeyPatch, times: list[float], loss: float, chosen: str
) -> None:
    durations = {"float32": [99.0] + [2.0] * 5, "bfloat16": [99.0, *times]}
    order = []

    def timed(step: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
        name = step.args[-1]  # type: ignore[attr-defined]
        order.append(name)
        return durations[name].pop(0), torch.tensor(loss if name == "bfloat16" else 1.0)

    monkeypatch.setattr(precision, "timed", timed)
    network, batch = nn.Linear(1, 1), torch.zeros(1)
    assert precision.choose_precision(network, None, batch) == chosen  # type: ignore[arg-type]
    assert order == ["float32", "bfloat16"] * 6
