"""Fixtures and checks that all benchmarks share: kernels, metadata, timing and comparison."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastmef
from fastmef import backends, reference

GPU_FOLDER = Path(__file__).parent / "gpu"


def missing_kernels() -> str:
    """Say why times of fastmef would not be those of its C++ kernels; empty if they would."""
    found = Path(fastmef.__file__).parent
    if backends.CPU is None:
        return (
            f"fastmef is imported from {found}, without its C++ kernels: {backends.cpu_status()}. "
            "Run `pytest bench` with the installed package, or build the kernels in the checkout: "
            "python setup.py build_ext --inplace"
        )
    try:
        distribution = importlib.metadata.distribution("fastmef")
    except importlib.metadata.PackageNotFoundError:  # built in place and not installed
        return ""
    installed = Path(str(distribution.locate_file("fastmef")))
    if installed.exists() and not installed.samefile(found):
        return (
            f"fastmef is imported from {found}, which hides the one that is installed in "
            f"{installed}. Run `pytest bench` instead of `python -m pytest bench`"
        )
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    on_cpu = [x for x in items if here in x.path.parents and GPU_FOLDER not in x.path.parents]
    if on_cpu and not config.option.collectonly and (reason := missing_kernels()):
        raise pytest.UsageError(reason)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["torch"] = torch.__version__
    machine_info["threads"] = torch.get_num_threads()
    machine_info["cpp"] = backends.cpu_status()
    machine_info["node"] = ""
    machine_info["system"] = platform.system()


# Largest errors of (value, gradient), relative to the largest value. Competitors subtract no
# constant before they compute variances, so larger errors are allowed.
OURS = (2e-6, 1e-5)
COMPETITORS = (1e-5, 2e-3)


@pytest.fixture
def clock(benchmark: Any) -> Callable[..., None]:
    """Time a call: 1 to 3 warm-up calls, then as many as fit into a second, from 3 to 50.

    ``op`` names the table in docs/benchmarks, ``row`` its row and ``name`` its column.
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
    """Return ``torch.compile`` for static shapes, without code that earlier benchmarks compiled."""
    torch._dynamo.reset()
    yield partial(torch.compile, dynamic=False)
    torch._dynamo.reset()


@pytest.fixture
def photograph() -> Callable[..., Tensor]:
    """Make float32 images (..., H, W) in [0, 1] with smooth structure and some noise."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand(shape, generator=generator)
        return reference.window_filter(noise, 5, 1.0, "reflect")

    return make


@pytest.fixture(scope="session")
def once() -> Callable[..., Any]:
    """Keep the last float64 result, with which several implementations are compared."""
    last: dict[Any, Any] = {}

    def get(key: Any, make: Callable[[], Any]) -> Any:
        if key not in last:
            last.clear()
            last[key] = make()
        return last[key]

    return get


@pytest.fixture
def check() -> Callable[..., None]:
    """Compare (value, gradient) with the float64 reference; competitors have a wider tolerance."""

    def run(
        ours: tuple[Tensor, ...], exact: tuple[Tensor, ...], name: str, margin: int = 0
    ) -> None:
        tolerances = OURS if name.startswith(("fastmef", "eager", "torch.compile")) else COMPETITORS
        for tolerance, x, right in zip(tolerances, ours, exact, strict=False):
            if margin and right.ndim > 1:
                inside = (..., slice(margin, -margin), slice(margin, -margin))
                x, right = x[inside], right[inside]
            assert x.shape == right.shape
            assert (x - right).abs().max() <= tolerance * max(1e-30, float(right.abs().max()))

    return run
