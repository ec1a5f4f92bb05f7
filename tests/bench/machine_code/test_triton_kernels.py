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
def carried_rows(x, stride, rows, SIZE: tl.constexpr):
    here = tl.program_id(0) * stride
    for _ in range(rows):
        at = x + here + tl.arange(0, SIZE)
        tl.store(at, tl.load(at) + 1)
        here += 1


@triton.jit
def next_rows(x, stride, rows, SIZE: tl.constexpr):
    here = tl.program_id(0)
    for row in range(rows):
        at = x + here + tl.arange(0, SIZE)
        tl.store(at, tl.load(at) + 1)
        here = row * stride


@triton.jit
def far_carried_rows(x, stride, rows, SIZE: tl.constexpr):
    here = tl.program_id(0).to(tl.int64) * stride
    for _ in range(rows):
        at = x + here + tl.arange(0, SIZE)
        tl.store(at, tl.load(at) + 1)
        here += stride


@triton.jit
def far_rows(x, stride, SIZE: tl.constexpr):
    at = x + tl.program_id(0).to(tl.int64) * stride + tl.arange(0, SIZE)
    tl.store(at, tl.load(at) + 1)


CONFIGURATIONS = [
    *(
        Configuration(
            f"center {n}, {warps}", center, {"x": "*fp32:16"}, {"SIZE": n}, n, 8, warps, 1
        )
        for n, warps in (CENTERS)
    ),
    *(
        Configuration(
            x.__name__,
            x,
            {name: "*fp32" if name == "x" else "i32" for name in x.arg_names if name != "SIZE"},
            {"SIZE": 128},
            128,
            8,
            32,
        )
        for x in (MORE)
    ),
]
"""


# Numbers of a warp, and warps that must be resident: one fits, three are wrong.
FITS, SPILLS, EXCEEDS, ODD = (1024, 32), (16384, 8), (1024, 128), (1000, 32)


def run(
    folder: Path, centers: list[tuple[int, int]], more: str
) -> subprocess.CompletedProcess[str]:
    file = folder / "kernel.py"
    file.write_text(KERNEL.replace("CENTERS", str(centers)).replace("MORE", more))
    environment = {x: y for x, y in os.environ.items() if x != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.machine_code", "triton", str(file)]
    return subprocess.run(
        [*command, "--architectures", "90", "--jobs", "1"],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
    )


def test_kernels_that_fit(tmp_path: Path) -> None:
    result = run(tmp_path, [FITS], "far_rows, far_carried_rows")
    assert result.returncode == 0, result.stderr
    line = next(x for x in result.stdout.splitlines() if "kernel: center" in x)
    cells = [x.strip() for x in line.split("|")]
    registers, most, _, spills = cells[2:6]
    assert 8 <= int(registers) <= int(most) == 64 and spills == "0"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return name of a variant → what is wrong with it; each alone makes the exit status 1."""
    centers = [FITS, SPILLS, EXCEEDS, ODD]
    narrow = "rows, two_layers, carried_rows, next_rows"
    result = run(tmp_path_factory.mktemp("wrong"), centers, narrow)
    assert result.returncode == 1
    lines = (x.removeprefix("kernel: ") for x in result.stderr.splitlines())
    return dict(x.split(", sm_90: ", 1) for x in lines if ", sm_90: " in x)


def test_one_that_fits_is_not_among_the_wrong_ones(found: dict[str, str]) -> None:
    assert len(found) == 7 and "center 1024, 32" not in found


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("center 16384, 8", "spills ("),
        ("center 1024, 128", "registers, budget 16"),
        ("center 1000, 32", "does not compile"),
        ("rows", "computes addresses in 32 bits"),
        ("two_layers", "computes addresses in 32 bits"),
        ("carried_rows", "computes addresses in 32 bits"),
        ("next_rows", "computes addresses in 32 bits"),
    ],
)
def test_what_is_wrong(found: dict[str, str], name: str, why: str) -> None:
    assert why in found[name]
