"""Kernels are compiled without a GPU, and the exit status tells what is wrong with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytest.importorskip("triton", minversion="3.4", reason="compiling needs Triton 3.4 or newer")

# Sums over blocks of numbers that one warp holds; all are needed again after the sum is known.
KERNEL = """
import triton
import triton.language as tl
from kernels.common.launching import Configuration


@triton.jit
def center(x, SIZE: tl.constexpr):
    at = x + tl.arange(0, SIZE)
    values = tl.load(at)
    tl.store(at, values - tl.sum(values) / SIZE)


@triton.jit
def rows(x, stride, SIZE: tl.constexpr):
    at = x + tl.program_id(0) * stride + tl.arange(0, SIZE)
    tl.store(at, tl.load(at) + 1)


@triton.jit
def two_layers(x, stride, SIZE: tl.constexpr):
    at = x + 2 * stride + tl.arange(0, SIZE)
    tl.store(at, tl.load(at) + 1)


@triton.jit
def far_rows(x, stride, SIZE: tl.constexpr):
    at = x + tl.program_id(0).to(tl.int64) * stride + tl.arange(0, SIZE)
    tl.store(at, tl.load(at) + 1)


CONFIGURATIONS = [
    Configuration("center", center, {"x": "*fp32:16"}, {"SIZE": SIZE_}, SIZE_, 8, RESIDENT, 1),
    *(
        Configuration(x.__name__, x, {"x": "*fp32", "stride": "i32"}, {"SIZE": 128}, 128, 8, 32)
        for x in (MORE)
    ),
]
"""


def run(
    tmp_path: Path, size: int, resident: int, more: str = ""
) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "kernel.py"
    file.write_text(
        KERNEL.replace("SIZE_", str(size)).replace("RESIDENT", str(resident)).replace("MORE", more)
    )
    environment = {x: y for x, y in os.environ.items() if x != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.machine_code", "triton", str(file)]
    return subprocess.run(
        [*command, "--architectures", "90", "--jobs", "1"],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
    )


def test_small_kernel_compiles(tmp_path: Path) -> None:
    result = run(tmp_path, 1024, 32)
    assert result.returncode == 0, result.stderr
    line = next(x for x in result.stdout.splitlines() if "kernel: center" in x)
    cells = [x.strip() for x in line.split("|")]
    registers, most, _, spills = cells[2:6]
    assert 8 <= int(registers) <= int(most) == 64 and spills == "0"


def test_spill_fails(tmp_path: Path) -> None:
    result = run(tmp_path, 16384, 8)
    assert result.returncode == 1 and "spills (" in result.stderr


def test_exceeded_budget_fails(tmp_path: Path) -> None:
    result = run(tmp_path, 1024, 128)
    assert result.returncode == 1 and "registers, budget 16" in result.stderr


def test_kernel_that_does_not_compile_fails(tmp_path: Path) -> None:
    result = run(tmp_path, 1000, 32)
    assert result.returncode == 1 and "does not compile" in result.stderr


def test_product_in_32_bits_fails(tmp_path: Path) -> None:
    assert run(tmp_path, 1024, 32, more="far_rows,").returncode == 0
    result = run(tmp_path, 1024, 32, more="rows, two_layers")
    assert result.returncode == 1
    for name in ("rows", "two_layers"):
        assert f"{name}, sm_90: computes addresses in 32 bits" in result.stderr
