"""How everything in this folder is timed, and what it runs on."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no GPU that torch can use")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    from fastmef import backends

    machine_info["triton"] = backends.triton_status()
    machine_info["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        machine_info["gpu"] = gpu.name
        machine_info["gpu_memory"] = gpu.total_memory


def device_ms(function: Callable[[], object]) -> float:
    """Median of 30 replays of a CUDA graph: the GPU's time, without the launches' on the host."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    times = []
    for _ in range(33):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[3:])


@pytest.fixture
def clock(benchmark: Any) -> Callable[..., None]:
    """Times a call and the wait for its result; ``extra_info`` holds the GPU's own time."""

    def run(function: Callable[[], object], group: str, moved: int = 0) -> None:
        def finished() -> None:
            function()
            torch.cuda.synchronize()

        for _ in range(3):
            finished()
        benchmark.group = group
        try:
            benchmark.extra_info["device_ms"] = device_ms(function)
        except RuntimeError as error:
            benchmark.extra_info["device_ms_missing"] = str(error).splitlines()[0]
        if moved:
            benchmark.extra_info["bytes"] = moved
        benchmark.pedantic(finished, rounds=30, iterations=1, warmup_rounds=3)

    return run


@pytest.fixture
def scene() -> Callable[..., Tensor]:
    """Noise over ramps, in [0, 1], on the GPU."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        ramp = torch.linspace(0, 0.5, shape[-1])
        return (ramp + 0.5 * torch.rand(shape, generator=generator)).cuda()

    return make
