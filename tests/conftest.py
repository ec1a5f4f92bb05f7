"""Fixtures and options that all tests share."""

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
    """Run the tests outside the checkout.

    A process that a test starts in the checkout would import the package there, without compiled
    kernels, instead of the package under test.
    """
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the CUDA C++ kernels compiled for the CPU."""
    if reason := cuda_emulation.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the folder of all workers, of which one compiles
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
        help="run every Nth test: a sample if all tests would take long",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    step = config.getoption("every")
    config.hook.pytest_deselected(items=[x for i, x in enumerate(items) if i % step])
    items[:] = items[::step]


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # With another worker running, two threads are slower than one.
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if getattr(config.option, "dist", "no") == "load":
        # A few tests take a minute, so a worker without tests takes over some of another's.
        config.option.dist = "worksteal"
    config.fault_counts = []  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.fault_counts:
        terminalreporter.write_line(f"faults: {line}")
