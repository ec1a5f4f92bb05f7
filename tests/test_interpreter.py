"""Runs tests/kernels by Triton's interpreter, a process for each file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmef import backends

FILES = sorted((Path(__file__).parent / "kernels").glob("test_*.py"))

pytestmark = pytest.mark.skipif(backends.INTERPRETED, reason="the interpreter is running already")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_kernels_by_interpreter(file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    why = "from fastmef import backends; print(backends.WHY_NO_TRITON)"
    # From an empty directory: what is installed, or on PYTHONPATH, is tested.
    python = [sys.executable, "-W", "error::ImportWarning"]
    reason = subprocess.run(
        [*python, "-c", why], cwd=tmp_path, env=environment, text=True, capture_output=True
    )
    assert reason.returncode == 0, reason.stderr
    if reason.stdout.strip():
        pytest.skip(reason.stdout.strip())
    result = subprocess.run(
        [*python, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "-rs", str(file)],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
