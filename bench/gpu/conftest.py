"""Fixtures for the benchmarks on a GPU: timing, devices and images."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends

HERE = Path(__file__).parent
LARGEST = 48  # largest side in pixels in a rehearsal, enough for three scales of 11-pixel windows


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run everything once on the CPU, with tiny images, to see that it is right"
    parser.addoption("--rehearse", action="store_true", help=text)


def _rehearsed(config: pytest.Config) -> bool:
    # The option is unknown if pytest finds this file after reading the options.
    return bool(config.getoption("--rehearse", default=False))


def missing_kernels() -> str:
    """Say why times of fastmef would be those of plain PyTorch; empty if some kernels run."""
    if backends.WHY_NO_TRITON and backends.WHY_NO_CUDA:
        return (
            f"fastmef has no kernels for the GPU. Triton: {backends.WHY_NO_TRITON}. "
            f"CUDA C++: {backends.WHY_NO_CUDA}"
        )
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if HERE in item.path.parents]
    if not here or _rehearsed(config):
        return
    if not torch.cuda.is_available():
        for item in here:
            item.add_marker(pytest.mark.skip(reason="no GPU that torch can use"))
    elif reason := missing_kernels():
        raise pytest.UsageError(reason)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["triton"] = backends.triton_status()
    machine_info["torch"] = torch.__version__
    machine_info["cuda"] = torch.version.cuda
    machine_info["cuda_kernels"] = backends.cuda_status()
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        machine_info["gpu"] = gpu.name
        machine_info["gpu_memory"] = gpu.total_memory


def device_ms(function: Callable[[], object]) -> float:
    """Return the median time of 30 replays of a CUDA graph, which excludes launches by the host."""
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


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    return torch.device("cpu" if _rehearsed(pytestconfig) else "cuda")


@pytest.fixture(scope="session")
def fitted(pytestconfig: pytest.Config) -> Callable[..., tuple[int, ...]]:
    """Return the shape of a benchmark; in a rehearsal a small one."""
    rehearsed = _rehearsed(pytestconfig)

    def fit(*shape: int) -> tuple[int, ...]:
        *others, height, width = shape
        small = (*(min(n, 2) for n in others), min(height, LARGEST), min(width, LARGEST))
        return small if rehearsed else shape

    return fit


@pytest.fixture
def clock(benchmark: Any, pytestconfig: pytest.Config) -> Callable[..., None]:
    """Time a call, including the wait for its result.

    ``moved`` is the number of bytes that every implementation must read and write. It is stored in
    ``extra_info`` of the result file, together with the GPU's own time.
    """

    def run(function: Callable[[], object], group: str, moved: int = 0) -> None:
        def finished() -> None:
            function()
            torch.cuda.synchronize()

        benchmark.group = group
        if moved:
            benchmark.extra_info["bytes"] = moved
        if _rehearsed(pytestconfig):
            benchmark.pedantic(function, rounds=1)
            return
        for _ in range(3):
            finished()
        try:
            benchmark.extra_info["device_ms"] = device_ms(function)
        except RuntimeError as error:
            benchmark.extra_info["device_ms_missing"] = str(error).splitlines()[0]
        benchmark.pedantic(finished, rounds=30, iterations=1, warmup_rounds=3)

    return run


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable TensorFloat-32: convolutions with it are not accurate enough for window means."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def compiled(pytestconfig: pytest.Config) -> Callable[..., Any]:
    """Return ``torch.compile`` for static shapes, without code that earlier benchmarks compiled."""
    torch._dynamo.reset()
    backend = "eager" if _rehearsed(pytestconfig) else "inductor"
    return lambda function: torch.compile(function, dynamic=False, backend=backend)


@pytest.fixture
def triton_runs() -> None:
    if backends.WHY_NO_TRITON:
        pytest.skip(f"no Triton kernels: {backends.WHY_NO_TRITON}")


@pytest.fixture
def triton_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Disable the CUDA C++ kernels, so that Triton runs their operations."""
    return lambda: monkeypatch.setattr(backends, "WHY_NO_CUDA", "Triton is timed")


@pytest.fixture
def scene(device: torch.device) -> Callable[..., Tensor]:
    """Make images of noise over ramps, in [0, 1]."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        ramp = torch.linspace(0, 0.5, shape[-1])
        return (ramp + 0.5 * torch.rand(shape, generator=generator)).to(device)

    return make
