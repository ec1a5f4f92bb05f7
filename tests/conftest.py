"""Shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import emulation as cuda_emulation
import pytest
import torch
from filelock import FileLock


@pytest.fixture(autouse=True, scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the checkout: a process that a test starts there would import its package without the
    compiled kernels instead of the one that is tested."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The CUDA C++ kernels, compiled for the CPU."""
    if reason := cuda_emulation.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers: one of them compiles
    with FileLock(folder / "emulation.lock"):
        return cuda_emulation.load(folder / "emulation")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long-faults",
        action="store_true",
        help="run tests/faults with the goal figures (hours) instead of samples of them",
    )
    parser.addoption(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="run every Nth of the tests: a sample where all would take long",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    step = config.getoption("every")
    config.hook.pytest_deselected(items=[x for i, x in enumerate(items) if i % step])
    items[:] = items[::step]


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Two threads beside those of another worker are slower than one.
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if getattr(config.option, "dist", "no") == "load":
        # A worker that has no tests left takes some of the other's: a few of them take a minute.
        config.option.dist = "worksteal"
    config.fault_counts = []  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.fault_counts:
        terminalreporter.write_line(f"faults: {line}")
