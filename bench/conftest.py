"""What every benchmark shares: machine metadata in each result file, and the way it is timed."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import backends, reference


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
    machine_info["cpp"] = backends.cpu_status()
    machine_info["node"] = ""
    machine_info["system"] = platform.system()


# Errors of (value, gradient) relative to the largest. The peers subtract no constant before they
# form variances, and are allowed more.
OURS = (2e-6, 1e-5)
PEERS = (1e-5, 2e-3)


@pytest.fixture
def clock(benchmark: Any) -> Callable[..., None]:
    """Times a call: 1 to 3 warm-up calls, then as many as fit in a second, 3 to 50.

    ``op`` names the table, ``row`` the row and ``name`` the column of bench/README.md.
    """

    def run(function: Callable[[], object], op: str, row: str, name: str) -> None:
        for _ in range(3):
            start = time.perf_counter()
            function()
            seconds = time.perf_counter() - start
            if seconds > 0.5:
                break
        benchmark.group = f"{op}: {row}"
        benchmark.extra_info.update(op=op, row=row, name=name)
        rounds = int(min(50, max(3, 1.0 / seconds)))
        benchmark.pedantic(function, rounds=rounds, iterations=1)

    return run


@pytest.fixture
def compiled() -> Iterator[Callable[..., Any]]:
    """``torch.compile`` for one shape, without what earlier benchmarks have left behind."""
    torch._dynamo.reset()
    yield partial(torch.compile, dynamic=False)
    torch._dynamo.reset()


@pytest.fixture
def photograph() -> Callable[..., Tensor]:
    """Makes float32 images (..., H, W) in [0, 1] with smooth structure and some noise."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand(shape, generator=generator)
        return reference.window_filter(noise, 5, 1.0, "reflect")

    return make


@pytest.fixture(scope="session")
def once() -> Callable[..., Any]:
    """Keeps the last thing made: the float64 result that several implementations are held to."""
    last: dict[Any, Any] = {}

    def get(key: Any, make: Callable[[], Any]) -> Any:
        if key not in last:
            last.clear()
            last[key] = make()
        return last[key]

    return get


@pytest.fixture
def check() -> Callable[..., None]:
    """Compares (value, gradient) with the float64 reference: a peer's with a wider tolerance."""

    def run(
        ours: tuple[Tensor, ...], exact: tuple[Tensor, ...], name: str, margin: int = 0
    ) -> None:
        tolerances = OURS if name.startswith(("fastmef", "eager", "torch.compile")) else PEERS
        for tolerance, x, right in zip(tolerances, ours, exact, strict=False):
            if margin and right.ndim > 1:
                inside = (..., slice(margin, -margin), slice(margin, -margin))
                x, right = x[inside], right[inside]
            assert x.shape == right.shape
            assert (x - right).abs().max() <= tolerance * max(1e-30, float(right.abs().max()))

    return run
