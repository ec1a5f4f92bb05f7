"""What every benchmark shares: machine metadata in each result file, and the way it is timed."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastmef import backends


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
    machine_info["cpp"] = backends.cpu_status()
    machine_info["node"] = ""
    machine_info["system"] = platform.system()


@pytest.fixture
def clock(benchmark: Any) -> Callable[..., None]:
    """Times a call: 3 warm-up rounds, then as many rounds as fit in about 3 seconds, 5 to 50."""

    def run(function: Callable[[], object], group: str) -> None:
        import time

        for _ in range(2):
            function()
        start = time.perf_counter()
        function()
        rounds = int(min(50, max(5, 3 / (time.perf_counter() - start))))
        benchmark.group = group
        benchmark.pedantic(function, rounds=rounds, iterations=1)

    return run
