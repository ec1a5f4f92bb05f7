"""Shared by all tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long-faults",
        action="store_true",
        help="run tests/faults with the goal figures (hours) instead of samples of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.fault_counts = []  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.fault_counts:
        terminalreporter.write_line(f"faults: {line}")
