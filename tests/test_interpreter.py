"""Run tests/kernels and the promises of every backend in Triton's interpreter.

Every fifth test runs: all of them take a core 25 minutes. They run by
``TRITON_INTERPRET=1 pytest tests/ops tests/kernels``. The files are divided among a few processes,
because each takes four seconds to start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmef import backends, ops  # noqa: F401  # declares every operation
from fastmef.ops.common.operation import OPERATIONS

HERE = Path(__file__).parent


def promises() -> Iterator[Path]:
    """Yield the files of promises of operations that Triton runs."""
    for path in (HERE / "ops").glob("test_*.py"):
        text = path.read_text()
        names = re.findall(r'"(\w+)"', "".join(re.findall(r"^    operation = .*", text, re.M)))
        if any(backends.TRITON in OPERATIONS[x].support for x in names if x in OPERATIONS):
            yield path


GROUPS = 4
# The longest first: each group has some of them.
FILES = sorted(
    [*(HERE / "kernels").glob("test_*.py"), *promises()],
    key=lambda x: x.stat().st_size,
    reverse=True,
)

pytestmark = pytest.mark.skipif(backends.INTERPRETED, reason="the interpreter is running already")

EVERY = 5  # no divisor of the numbers of parameters, so that all parameters are tested

Run = subprocess.CompletedProcess[str]


def run(group: int, folder: Path) -> Run:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    # From an empty directory: what is installed, or on PYTHONPATH, is tested.
    python = [sys.executable, "-W", "error::ImportWarning"]
    options = ["-p", "no:cacheprovider", "--no-header", "-rs"]
    return subprocess.run(
        [
            *python,
            "-m",
            "pytest",
            *options,
            f"--basetemp={folder / str(group)}",
            f"--every={EVERY}",
            *map(str, FILES[group::GROUPS]),
        ],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def result_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Run]]:
    """Run all groups at once, as many as there are cores: the interpreter uses one."""
    why = "from fastmef import backends; print(backends.WHY_NO_TRITON)"
    folder = tmp_path_factory.mktemp("empty")
    reason = subprocess.run(
        [sys.executable, "-c", why],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        text=True,
        capture_output=True,
    )
    assert reason.returncode == 0, reason.stderr
    if reason.stdout.strip():
        pytest.skip(reason.stdout.strip())
    # A worker of pytest-xdist has some of the tests only, and another is beside it.
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield lambda group: run(group, folder)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(run, group, folder) for group in range(GROUPS)]
        yield lambda group: futures[group].result()


def test_files_with_kernels() -> None:
    names = {f"{x.parent.name}/{x.stem}" for x in FILES}
    assert {"kernels/test_loss", "ops/test_loss", "ops/test_filters", "ops/test_guided"} <= names
    assert "ops/test_luma" not in names


@pytest.mark.parametrize("group", range(GROUPS))
def test_kernels_by_interpreter(group: int, result_of: Callable[[int], Run]) -> None:
    result = result_of(group)
    assert result.returncode == 0, result.stdout + result.stderr
