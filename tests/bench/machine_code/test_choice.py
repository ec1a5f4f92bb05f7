"""The order of the GPU backends in fastmef.backends follows from the committed counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.machine_code import results
from fastmef import backends

TOOLCHAINS = {"nvcc": backends.CUDA, "Triton": backends.TRITON}
# Bytes and thread instructions per second of an H100. Nothing has been timed on one yet; measured
# times in bench/results can replace these estimates.
BYTES, INSTRUCTIONS = 3.0e12, 32 * 6.5e11
MARGIN = 1.05  # smaller differences of the estimates are not significant


def seconds(entry: dict[str, Any]) -> float:
    """Return the least time of a pixel: memory or the schedulers set the pace."""
    return max(entry["needed"] / BYTES, entry["instructions"] / INSTRUCTIONS)


def test_the_preferred_backend_is_the_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "")
    monkeypatch.setattr(backends, "WHY_NO_TRITON", "")
    monkeypatch.setattr(backends, "capability", lambda gpu: (9, 0))
    order = backends.usable_on(torch.device("cuda:0"))
    counted = results.read()["instructions"]
    compared = 0
    for key, entry in counted.items():
        case, toolchain = key.rsplit(", ", 1)
        others = [counted.get(f"{case}, {name}") for name in TOOLCHAINS if name != toolchain]
        if toolchain not in TOOLCHAINS or not others[0]:
            continue
        if TOOLCHAINS[toolchain] == order[0]:
            compared += 1
            assert seconds(entry) <= MARGIN * seconds(others[0]), case
    assert compared
