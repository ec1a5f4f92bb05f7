"""No operation executes more instructions a pixel than its budget allows."""

from __future__ import annotations

import os
from typing import Any

import pytest

from bench.machine_code import budgets, results


def test_committed_counts_are_within_their_budgets() -> None:
    counted = results.read()["instructions"]
    assert not budgets.exceeded(counted, budgets.read())
    assert counted.keys() == budgets.read().keys(), "run python -m bench.machine_code instructions"


def test_kernels_as_they_are_now_are_within_their_budgets() -> None:
    """Two of Triton's kernels; ``python -m bench.machine_code instructions`` counts all."""
    pytest.importorskip("triton", minversion="3.4", reason="Triton 3.4 or newer compiles them")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("interpreted kernels cannot be compiled")
    from bench.machine_code import instructions
    from bench.machine_code.cases import PATCHES, cases

    counter = instructions.Counter(None)
    limits = budgets.read()
    wrong = []
    for case in cases():
        if case.shape != PATCHES or case.operation not in ("local_variance", "sobel_gradient"):
            continue
        for backend in counter.backends(case):
            wrong += budgets.exceeded(counter.count(case, backend), limits)
    assert not wrong


def entry(instructions: float, share: float = 0.0) -> dict[str, Any]:
    return {"instructions": instructions, "by_16_bytes": share}


def test_what_exceeds_a_budget() -> None:
    limits = {"a": {"most": 100.0}, "b": {"most": 100.0, "least_by_16_bytes": 0.9}}
    assert budgets.exceeded({"a": entry(100), "b": entry(50, 0.95)}, limits) == []
    found = budgets.exceeded({"a": entry(100.5), "b": entry(50, 0.5), "c": entry(1)}, limits)
    assert [x.split(":")[0] for x in found] == ["a", "b", "c"]


def test_limits_are_lowered_and_never_raised() -> None:
    limits = {"slow": {"most": 100.0, "goal": 50.0}, "met": {"most": 80.0, "goal": 50.0}}
    counted = {"slow": entry(200), "met": entry(30), "new": entry(10, 0.505)}
    assert budgets.tightened(counted, limits) == {
        "slow": {"most": 100.0, "goal": 50.0},
        "met": {"most": 50.0, "goal": 50.0},
        "new": {"most": 11, "least_by_16_bytes": 0.5},
    }
