"""Count the instructions and bytes of operations per pixel in the machine code of sm_90.

python -m bench.machine_code instructions            # a table on the screen
python -m bench.machine_code instructions loss       # operations whose names contain "loss"
python -m bench.machine_code instructions --kinds    # also the kinds of instructions of each kernel
python -m bench.machine_code instructions --write    # also machine_code.json and compiled.md

The launches of a call are recorded without a GPU, and their machine code is simulated: halo, strips
and loops count as often as they run. The exit status is 1 if a count exceeds its budget in
budgets.json; --write lowers the budgets to the counts. CUDACXX selects another nvcc; without nvcc
only Triton is counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch

from bench.machine_code import budgets, results
from bench.machine_code.cases import Case, cases
from bench.machine_code.execution import WARP, Counts, Program
from bench.machine_code.recording import CudaKernels, Recorded, TritonKernels, recording
from bench.machine_code.sass import spills
from bench.tables import rewrite

# Limits of an H100's multiprocessor.
REGISTERS, SHARED, WARPS, BLOCKS = 65536, 228 << 10, 64, 32
RESERVED = 1 << 10  # bytes of shared memory that the hardware reserves per block

KINDS = {
    "floating point": ("FFMA", "FADD", "FMUL", "FMNMX", "HFMA2"),
    "special functions": ("MUFU",),
    "shared memory": ("LDS", "STS"),
    "global memory": ("LDG", "STG"),
}


def occupancy(recorded: Recorded) -> float:
    """Return the occupancy: the share of a multiprocessor's warps that can be resident."""
    warps = -(-recorded.launch.threads // WARP)
    # Registers are allocated to warps in units of 256.
    registers = -(-WARP * recorded.kernel.resources["REG"] // 256) * 256 * warps
    shared = recorded.shared + RESERVED
    blocks = min(REGISTERS // registers, SHARED // shared, WARPS // warps, BLOCKS)
    return blocks * warps / WARPS


def readable(name: str) -> str:
    """Return a readable name such as ``loss_kernel<false, 2>`` for a mangled name."""
    if not name.startswith("_Z"):
        return name
    done = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True)
    plain = done.stdout.strip().replace("fastmef::", "").replace("(anonymous namespace)::", "")
    return plain.removeprefix("void ").rsplit("(", 1)[0]


def _entry(recorded: Recorded, counts: Counts, pixels: int) -> dict[str, Any]:
    resources = recorded.kernel.resources
    moved = counts.bytes_by_width.total()
    return {
        "kernel": readable(recorded.name),
        "instructions": round(counts.instructions * WARP / pixels, 2),
        "bytes": round(moved / pixels, 2),
        "sectors": round(counts.sectors * 32 / pixels, 2),
        "sectors_a_request": round(counts.sectors / max(1.0, counts.requests), 2),
        "by_16_bytes": round(counts.bytes_by_width[16] / max(1.0, moved), 3),
        "registers": resources["REG"],
        "spills": spills(recorded.kernel),
        "shared": recorded.shared,
        "occupancy": round(occupancy(recorded), 3),
        **({"assumed": sorted(counts.assumed)} if counts.assumed else {}),
    }


def kinds_of(recorded: Recorded, counts: Counts, pixels: int) -> str:
    """Return the instructions a pixel of every kind; the rest is addresses, branches and moves."""
    found = {name: sum(counts.kinds[x] for x in kinds) for name, kinds in KINDS.items()}
    found["rest"] = counts.instructions - sum(found.values())
    numbers = ", ".join(f"{name} {n * WARP / pixels:.1f}" for name, n in found.items())
    return f"{readable(recorded.name)}: {numbers}"


def _share(kernels: list[dict[str, Any]]) -> float:
    """Return the share of bytes that 16-byte accesses move in several kernels."""
    moved = sum(x["bytes"] for x in kernels)
    return round(sum(x["by_16_bytes"] * x["bytes"] for x in kernels) / max(moved, 1e-9), 3)


class Counter:
    """Count cases, and reuse prepared programs between them.

    ``operations`` is a pattern of the folders in ``csrc/cuda`` that nvcc compiles for them.
    """

    def __init__(self, nvcc: str | None, show_kinds: bool = False, operations: str = "*") -> None:
        self.show_kinds = show_kinds
        self.cuda = CudaKernels(nvcc, operations) if nvcc else None
        self.triton = TritonKernels()
        self.programs: dict[int, Program] = {}

    def backends(self, case: Case) -> Iterator[str]:
        for backend in case.backends:
            if backend != "cuda" or self.cuda:
                yield backend

    def _count(self, recorded: Recorded, pixels: int) -> dict[str, Any]:
        program = self.programs.setdefault(id(recorded.kernel), Program(recorded.kernel))
        counts = program.run(recorded.launch)
        if self.show_kinds:
            print(f"{'':11}{kinds_of(recorded, counts, pixels)}", flush=True)
        return _entry(recorded, counts, pixels)

    def count(self, case: Case, backend: str) -> dict[str, dict[str, Any]]:
        """Return key → figures for the forward and the backward pass.

        The result is empty for CUDA C++ if Triton's kernels run the case.
        """
        order = ("cuda", "triton") if backend == "cuda" else ("triton",)
        found: dict[str, dict[str, Any]] = {}
        with recording(order, self.cuda, self.triton) as launches:
            result = case.call()()
            forward = len(launches)
            if result.requires_grad:
                result.backward(torch.empty_like(result))
        if backend == "cuda" and not any(x.toolchain == "nvcc" for x in launches):
            return found
        passes = {"forward": launches[:forward], "backward": launches[forward:]}
        for (name, some), needed in zip(passes.items(), case.needed, strict=True):
            if not some:
                continue
            kernels = [self._count(x, case.pixels) for x in some]
            toolchains = " and ".join(dict.fromkeys(x.toolchain for x in some))
            found[f"{case.label}, {name}, {toolchains}"] = {
                "launches": len(some),
                "instructions": round(sum(x["instructions"] for x in kernels), 1),
                "needed": needed,
                "bytes": round(sum(x["bytes"] for x in kernels), 1),
                "sectors": round(sum(x["sectors"] for x in kernels), 1),
                "by_16_bytes": _share(kernels),
                "kernels": kernels,
            }
        return found


def find_nvcc() -> str | None:
    return shutil.which(os.environ.get("CUDACXX", "nvcc"))


def table(counted: dict[str, Any]) -> str:
    """Return a table with a row for each pass, with the figures of its largest kernel."""
    lines = [
        "| pass | launches | instructions, goal | bytes needed, asked for, in sectors "
        "| by 16 bytes | sectors a request | registers | spills | shared | occupancy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    limits = budgets.read()
    for key, entry in counted.items():
        kernels = entry["kernels"]
        main = max(kernels, key=lambda x: x["instructions"])
        goal = limits.get(key, {}).get("goal")
        wanted = f", {goal:g}" if goal else ""
        lines.append(
            f"| {key} | {entry['launches']} | {entry['instructions']:.0f}{wanted} "
            f"| {entry['needed']:g}, {entry['bytes']:.0f}, {entry['sectors']:.0f} "
            f"| {entry['by_16_bytes']:.0%} | {main['sectors_a_request']:.1f} | {main['registers']} "
            f"| {sum(x['spills'] for x in kernels)} | {main['shared']} "
            f"| {main['occupancy']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.machine_code instructions",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("words", nargs="*", help="parts of the names of operations")
    parser.add_argument("--write", action="store_true", help="rewrite the committed results")
    parser.add_argument(
        "--kinds", action="store_true", help="print the kinds of instructions of each kernel"
    )
    options = parser.parse_args(arguments)
    if options.write and options.words:
        parser.error("--write writes all operations")
    counter = Counter(find_nvcc(), options.kinds)
    counted: dict[str, Any] = {}
    for case in cases():
        if options.words and not any(word in case.label for word in options.words):
            continue
        for backend in counter.backends(case):
            for key, entry in counter.count(case, backend).items():
                counted[key] = entry
                print(f"{entry['instructions']:9.1f}  {key}", flush=True)
    print(table(counted))
    wrong = budgets.exceeded(counted, budgets.read())
    print("\n".join(wrong), file=sys.stderr)
    if options.write:
        budgets.write(budgets.tightened(counted, budgets.read()))
        results.replace("instructions", counted)
        rewrite("instructions", table(counted))
    return 1 if wrong or not counted else 0
