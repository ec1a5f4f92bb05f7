"""Compare counted instructions with those that Nsight Compute measures on a GPU.

python -m bench.machine_code ncu              # a line for each kernel; needs a GPU and ncu
python -m bench.machine_code ncu --json FILE  # also a file

The cases on patches run once under ncu, with noise as images. The exit status is 1 if a kernel is
missing or its count differs by more than 5 %.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.machine_code import cases, instructions
from bench.machine_code.cases import PATCHES, Case

TOLERANCE = 0.05
METRICS = {
    "smsp__inst_executed.sum": "instructions",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": "sectors_loaded",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum": "sectors_stored",
    "launch__registers_per_thread": "registers",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
}


def chosen() -> Iterator[Case]:
    """Yield the cases that are measured."""
    yield from (case for case in cases.cases() if case.shape == PATCHES)


def _noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype, device="cuda")
    return torch.rand(shape, dtype=dtype, device="cuda")


def run() -> None:
    """Run every case, the second time under the profiler."""
    profiler = torch.cuda.cudart()
    with mock.patch.object(cases, "_images", _noise):
        for case in chosen():
            call = case.call()
            for measured in (False, True):
                torch.cuda.synchronize()
                if measured:
                    profiler.cudaProfilerStart()
                result = call()
                if result.requires_grad:
                    result.backward(torch.ones_like(result))
                torch.cuda.synchronize()
                if measured:
                    profiler.cudaProfilerStop()


def parse(report: str) -> list[dict[str, Any]]:
    """Return name and metrics of each kernel in ncu's CSV of raw values, in order."""
    lines = [line for line in report.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    found = []
    for row in rows[1:]:  # the first row holds units
        values = {short: float(row[long].replace(",", "")) for long, short in METRICS.items()}
        found.append({"kernel": row["Kernel Name"], **values})
    return found


def short(name: str) -> str:
    """Return the name of a kernel without template arguments, namespaces and parameters."""
    return name.split("(")[0].split("<")[0].split("::")[-1].removeprefix("void ").strip()


def compare(
    expected: list[tuple[str, dict[str, Any]]], measured: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Pair counted kernels with measured ones of the same name, in the order of their launches."""
    ours = {short(entry["kernel"]) for _, entry in expected}
    left = [x for x in measured if short(x["kernel"]) in ours]
    pairs = []
    for key, entry in expected:
        found = left.pop(0) if left and short(left[0]["kernel"]) == short(entry["kernel"]) else {}
        ratio = entry["warp_instructions"] / found["instructions"] if found else None
        pairs.append({"pass": key, "kernel": entry["kernel"], "ratio": ratio, **found})
    return pairs


def _expected() -> list[tuple[str, dict[str, Any]]]:
    """Return key and counts of the kernels that the cases launch with the preferred backend."""
    counter = instructions.Counter(instructions.find_nvcc())
    found = []
    for case in chosen():
        backend = next(counter.backends(case))
        passes = counter.count(case, backend) or counter.count(case, "triton")
        for key, entry in passes.items():
            for kernel in entry["kernels"]:
                warps = kernel["instructions"] * case.pixels / 32
                found.append((key, {**kernel, "warp_instructions": warps}))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.machine_code ncu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="file for the compared counts")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        run()
        return 0
    command = ["ncu", "--csv", "--page", "raw", "--profile-from-start", "off"]
    command += ["--metrics", ",".join(METRICS)]
    command += [sys.executable, "-m", "bench.machine_code", "ncu", "--run"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    pairs = compare(_expected(), parse(done.stdout))
    wrong = 0
    for pair in pairs:
        off = pair["ratio"] is None or abs(pair["ratio"] - 1) > TOLERANCE
        wrong += off
        ratio = "missing" if pair["ratio"] is None else f"{pair['ratio']:.3f}"
        print(f"{ratio:>8}{' !' if off else '  '} {pair['pass']}: {pair['kernel']}")
    if options.json:
        options.json.write_text(json.dumps(pairs, indent=1) + "\n")
    return 1 if wrong or not pairs else 0
