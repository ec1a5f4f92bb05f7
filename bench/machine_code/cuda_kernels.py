"""Compile the CUDA C++ kernels and report what their machine code uses; no GPU is needed.

python -m bench.machine_code cuda            # a table on the screen
python -m bench.machine_code cuda --write    # also machine_code.json and compiled.md

The exit status is 1 if a kernel spills registers or a block does not fit into a multiprocessor.
CUDACXX selects another nvcc.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from bench.machine_code import results
from bench.tables import rewrite

ROOT = Path(__file__).parents[2]
# Architecture → KiB of shared memory and threads of a multiprocessor. Each has 65536 registers and
# reserves 1 KiB of shared memory per block; a block may have all the rest.
MULTIPROCESSORS = {
    80: (164, 2048),
    86: (100, 1536),
    89: (100, 1536),
    90: (228, 2048),
    100: (228, 2048),
    120: (100, 1536),
}
THREADS = 256  # kThreads of csrc/cuda/runtime/launch.h
# The most threads of a block of loss_kernel<L, K, C>, and the dynamic shared memory of its launch,
# as asserted in csrc/cuda/loss/loss.cu.
LOSS = {
    "loss_kernel<false, 2": (256, 52000),
    "loss_kernel<true, 2": (256, 66224),
    "loss_kernel<false, 3": (192, 51456),
    "loss_kernel<true, 3": (192, 83488),
}
SHOWN = ("registers", "shared", "blocks", "spilled")  # in the order of the columns
ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<architecture>\d+)\w?'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def entries(report: str) -> list[dict[str, Any]]:
    """Parse the output of ``ptxas -v``: one entry for every kernel and architecture."""
    found = []
    for entry in ENTRY.finditer(report):
        shared = re.search(r"(\d+) bytes smem", entry["rest"])
        found.append(
            {
                "kernel": entry["kernel"],
                "architecture": int(entry["architecture"]),
                "registers": int(entry["registers"]),
                "shared": int(shared[1]) if shared else 0,
                "spilled": int(entry["stack"]) + int(entry["stores"]) + int(entry["loads"]),
            }
        )
    return found


def blocks(result: dict[str, Any]) -> int:
    """Return how many blocks of a kernel one multiprocessor holds."""
    threads, _ = LOSS.get(result["kernel"].rsplit(",", 1)[0], (THREADS, 0))
    memory, most_threads = MULTIPROCESSORS[result["architecture"]]
    # Registers are allocated to warps in units of 256.
    registers = -(-32 * result["registers"] // 256) * 256 * (threads // 32)
    by_memory = memory * 1024 // (result["shared"] + 1024)
    return min(65536 // registers, by_memory, most_threads // threads)


def readable(kernels: list[str]) -> dict[str, str]:
    """Return mangled name → readable name, such as ``fuse_kernel<uint8, 2, 16, false>``."""
    text = subprocess.run(
        ["c++filt"], input="\n".join(kernels), capture_output=True, text=True, check=True
    ).stdout
    short = []
    for name in text.splitlines():
        name = re.sub(r"fastmef::|\(anonymous namespace\)::|^void ", "", name)
        name = name.rsplit("(", 1)[0].replace("unsigned char", "uint8")
        name = name.replace("unsigned short", "uint16").replace("Half", "float16")
        short.append(name.replace("BFloat", "bfloat16"))
    return dict(zip(kernels, short, strict=True))


def compile_all(nvcc: str, architectures: list[int]) -> list[dict[str, Any]]:
    import pybind11

    targets = [f"--generate-code=arch=compute_{x},code=sm_{x}" for x in architectures]
    options = ["-O3", "-std=c++17", "--threads=0", "-Xptxas=-v", "-c", "-o", os.devnull]
    includes = (ROOT / "csrc", pybind11.get_include(), sysconfig.get_paths()["include"])
    options += [f"-I{x}" for x in includes]
    found = []
    for source in sorted((ROOT / "csrc").glob("cuda/*/*.cu")):
        done = subprocess.run([nvcc, *options, *targets, source], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found += [{"file": source.name, **x} for x in entries(done.stderr)]
    names = readable([x["kernel"] for x in found])
    for result in found:
        result["kernel"] = names[result["kernel"]]
        result["shared"] += LOSS.get(result["kernel"].rsplit(",", 1)[0], (THREADS, 0))[1]
        result["blocks"] = blocks(result)
    return sorted(found, key=lambda x: (x["file"], x["kernel"], x["architecture"]))


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an entry for each kernel; a single number if all architectures agree."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in found:
        groups.setdefault(f"{result['file']}: {result['kernel']}", []).append(result)
    entries = {}
    for name, group in groups.items():
        values = {key: [x[key] for x in group] for key in SHOWN}
        entries[name] = {key: x[:1] if len(set(x)) == 1 else x for key, x in values.items()}
    return entries


def table(entries: dict[str, Any]) -> str:
    """Return a table with a line for each kernel."""
    architectures = ", ".join(f"sm_{x}" for x in entries["architectures"])
    lines = [
        f"nvcc {entries['version']}. Architectures: {architectures}, separated by slashes where "
        "they differ.",
        "",
        "| kernel | registers | shared bytes | blocks a multiprocessor | bytes spilled |",
        "|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        if name in ("version", "architectures"):
            continue
        file, kernel = name.split(": ", 1)
        cells = [" / ".join(map(str, entry[key])) for key in SHOWN]
        lines.append(f"| {file}: `{kernel}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(
        prog="python -m bench.machine_code cuda", description=description
    )
    parser.add_argument(
        "--architectures",
        nargs="+",
        type=int,
        choices=list(MULTIPROCESSORS),
        default=list(MULTIPROCESSORS),
    )
    parser.add_argument("--write", action="store_true", help="rewrite the committed results")
    options = parser.parse_args(arguments)
    nvcc = os.environ.get("CUDACXX", "nvcc")
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True)
    release = re.search(r"release ([\d.]+)", told.stdout)
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True)
    architectures = [x for x in options.architectures if f"compute_{x}" in known.stdout.split()]
    found = compile_all(nvcc, architectures)
    version = release[1] if release else "?"
    entries = {"version": version, "architectures": architectures, **summary(found)}
    print(table(entries))
    wrong = [x for x in found if x["spilled"] or x["blocks"] < 1]
    for x in wrong:
        what = f"spills {x['spilled']} bytes, {x['blocks']} blocks fit"
        print(f"{x['kernel']}, sm_{x['architecture']}: {what}", file=sys.stderr)
    if options.write:
        results.replace("cuda", entries)
        rewrite("cuda", table(entries))
    return 1 if wrong or not found else 0
