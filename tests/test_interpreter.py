"""Run tests/kernels and the promises of every backend in Triton's interpreter.

Each file has a process of its own, in which every fifth test runs: all of them take a core 25
minutes. They run by ``TRITON_INTERPRET=1 pytest tests/ops tests/kernels``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmef import backends

HERE = Path(__file__).parent
PROMISES = [x for x in (HERE / "ops").glob("test_*.py") if "(Conformance)" in x.read_text()]
FILES = {f"{x.parent.name}/{x.stem}": x for x in [*(HERE / "kernels").glob("test_*.py"), *PROMISES]}

pytestmark = pytest.mark.skipif(backends.INTERPRETED, reason="the interpreter is running already")

EVERY = 5  # no divisor of the numbers of parameters, so that all parameters are tested

Run = subprocess.CompletedProcess[str]


def run(name: str, folder: Path) -> Run:
    file = FILES[name]
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
            f"--basetemp={folder / name.replace('/', '-')}",
            f"--every={EVERY}",
            str(file),
        ],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def result_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Run]]:
    """Run all files at once, as many as there are cores: the interpreter uses one."""
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
        yield lambda name: run(name, folder)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The longest first.
        files = sorted(FILES.items(), key=lambda x: x[1].stat().st_size, reverse=True)
        futures = {name: pool.submit(run, name, folder) for name, _ in files}
        yield lambda name: futures[name].result()


@pytest.mark.parametrize("name", FILES)
def test_kernels_by_interpreter(name: str, result_of: Callable[[str], Run]) -> None:
    result = result_of(name)
    assert result.returncode == 0, result.stdout + result.stderr
