"""Launches that are recorded without a GPU, and what is counted in them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", minversion="3.4", reason="compiling needs Triton 3.4 or newer")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from bench.machine_code import instructions, sass  # noqa: E402
from bench.machine_code.cases import Case, cases  # noqa: E402
from bench.machine_code.execution import Program  # noqa: E402
from bench.machine_code.recording import Recorded, TritonKernels  # noqa: E402
from fastmef import functional  # noqa: E402

HALO, COLUMNS = 10, 128


@triton.jit
def march(x, out, rows, width, HALO: tl.constexpr, COLUMNS: tl.constexpr):
    """Sum HALO + 1 rows with a march down the strip, as the windowed kernels do."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    for row in range(rows + HALO):
        total += tl.load(x + row * width + column)
        if row >= HALO:
            tl.store(out + (row - HALO) * width + column, total)


@pytest.fixture(scope="module")
def counter() -> instructions.Counter:
    return instructions.Counter(instructions.find_nvcc(), operations="fusion")


@pytest.mark.parametrize("rows", [1, 6, 33])
def test_march_counts_halo_and_rows(rows: int) -> None:
    found: list[Recorded] = []
    strips, warps = 3, 4
    width = COLUMNS * strips
    with TritonKernels().listening(found.append):
        image, out = torch.empty(rows + HALO, width), torch.empty(rows, width)
        march[(strips,)](image, out, rows, width, HALO=HALO, COLUMNS=COLUMNS, num_warps=warps)
    (recorded,) = found
    assert recorded.launch.grid == (strips, 1, 1) and recorded.launch.threads == 32 * warps
    counts = Program(recorded.kernel).run(recorded.launch)
    # A warp loads 128 bytes of each row with its halo, and stores 128 of each row without.
    assert counts.kinds["LDG"] == strips * warps * (rows + HALO)
    assert counts.bytes_by_width == {4: 128 * strips * warps * (2 * rows + HALO)}
    assert counts.stored == 128 * strips * warps * rows
    assert counts.sectors == 4 * counts.requests
    assert not counts.assumed


@pytest.fixture
def elementwise() -> Iterator[Case]:
    return (x for x in cases() if x.operation.startswith("softmax_fuse") and x.shape[0] == 8)


def test_fusion_asks_for_every_byte_once(
    counter: instructions.Counter, elementwise: Iterator[Case]
) -> None:
    for case in elementwise:
        for backend in counter.backends(case):
            for key, entry in counter.count(case, backend).items():
                assert entry["bytes"] == pytest.approx(entry["needed"], rel=1e-2), key
                assert entry["launches"] == 1 and entry["kernels"][0]["spills"] == 0


def test_operations_run_as_usual_after_a_recording(counter: instructions.Counter) -> None:
    case = next(cases())
    images = torch.rand(1, 20, 20)
    before = functional.local_variance(images)
    counter.count(case, "triton")
    assert torch.equal(functional.local_variance(images), before)


def test_occupancy() -> None:
    kernel = sass.Kernel("kernel", resources={"REG": 168})
    from bench.machine_code.execution import Launch

    recorded = Recorded("nvcc", "kernel", kernel, Launch((1, 1, 1), 128, b""), 26640)
    assert instructions.occupancy(recorded) == pytest.approx(3 * 4 / 64)  # 65536 / (168 * 128)
    kernel.resources["REG"] = 32
    assert instructions.occupancy(recorded) == pytest.approx(8 * 4 / 64)  # 228 KiB / 27 KiB
