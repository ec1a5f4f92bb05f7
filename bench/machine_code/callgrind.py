"""Count instructions and cache misses of the C++ kernels for each pixel with callgrind.

FASTMEF_CUDA=0 FASTMEF_CPU_FLAGS=-g python setup.py build_ext --inplace --force
python -m bench.machine_code callgrind            # a table on the screen, some ten minutes
python -m bench.machine_code callgrind --write    # also machine_code.json and cpu.md

Valgrind does not support AVX-512, so the AVX2 kernels are counted, on one thread. It simulates the
first-level cache of this processor. Inlined code counts for the file in which it is written.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench.machine_code import results
from bench.tables import rewrite
from fastmef import functional

SIZE = 250
LINE = 64  # bytes
# Operation → its C++ function.
FUNCTIONS = {
    "weighted_ssim_loss": "weighted_ssim_loss",
    "fusion_loss": "weighted_ssim_loss",
    "softmax_fuse": "softmax_fuse",
    "mef_ssim": "ma2015_quality",
}
SHOWN = 0.03  # files with a smaller share of an operation's instructions are shown together
OTHERS, MISSES = "other files", "bytes that miss the first cache"


def run(op: str) -> None:
    """Call an operation once, with two exposures of SIZE x SIZE pixels."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    exposures = torch.rand(1, 2, SIZE, SIZE, generator=generator)
    logits = torch.randn(1, 2, SIZE, SIZE, generator=generator)
    if op == "weighted_ssim_loss":
        functional.weighted_ssim_loss(exposures.mean(dim=1).requires_grad_(), exposures)
    elif op == "fusion_loss":
        functional.fusion_loss(logits.requires_grad_(), exposures)
    elif op == "softmax_fuse":
        colors = (255 * exposures.unsqueeze(2).expand(-1, -1, 3, -1, -1)).to(torch.uint8)
        functional.softmax_fuse(logits, colors.contiguous())
    else:
        functional.mef_ssim(exposures.mean(dim=1), exposures)


def parse(profile: str) -> tuple[Counter[str], int]:
    """Return file → instructions, and the cache lines that missed the first cache."""
    events: list[str] = []
    by_file: Counter[str] = Counter()
    misses = 0
    names: dict[str, str] = {}
    file, of_callee = "", False
    for line in profile.splitlines():
        if line.startswith("events:"):
            events = line.split()[1:]
        elif match := re.match(r"(cfi|cfl|fl|fi|fe)=(\(\d+\))(?: (.*))?", line):
            names.setdefault(match[2], "/".join(Path(match[3] or "").parts[-2:]))
            if not match[1].startswith("c"):
                file = names[match[2]]
        elif line.startswith("calls="):
            of_callee = True  # the next line repeats the costs of the callee
        elif re.match(r"[+\-*\d]", line):
            costs = dict(zip(events, map(int, line.split()[1:]), strict=False))
            # callgrind counts every byte that one instruction of memset clears as an instruction.
            if not of_callee and not Path(file).name.startswith("memset"):
                by_file[file] += costs.get("Ir", 0)
                misses += costs.get("D1mr", 0) + costs.get("D1mw", 0)
            of_callee = False
    return by_file, misses


def count(op: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            "valgrind",
            "--tool=callgrind",
            "--cache-sim=yes",
            f"--callgrind-out-file={out}",
            f"--toggle-collect=fastmef::avx2::{FUNCTIONS[op]}*",
            *(sys.executable, "-m", "bench.machine_code", "callgrind", "--run", op),
        ]
        environment = {**os.environ, "FASTMEF_CPU_ISA": "avx2", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        by_file, misses = parse(out.read_text())
    total = by_file.total()
    if not total:
        raise SystemExit(f"nothing was counted for {op}: is the extension built with -g?")
    shown = {file: n for file, n in by_file.most_common() if n > SHOWN * total}
    shown[OTHERS] = total - sum(shown.values())
    per_pixel = {file: n / SIZE**2 for file, n in shown.items()}
    return {"instructions": total / SIZE**2, **per_pixel, MISSES: LINE * misses / SIZE**2}


def table(counts: dict[str, dict[str, float]]) -> str:
    files = dict.fromkeys(row for by_row in counts.values() for row in by_row)
    last = (OTHERS, MISSES)
    lines = [f"| for each pixel | {' | '.join(counts)} |", f"|---|{'---:|' * len(counts)}"]
    for row in [*(file for file in files if file not in last), *last]:
        cells = (f"{by_row[row]:.1f}" if row in by_row else "" for by_row in counts.values())
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    description = (__doc__ or "").split("\n")[0]
    prog = "python -m bench.machine_code callgrind"
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--write", action="store_true", help="rewrite the files in bench/")
    parser.add_argument("--run", choices=FUNCTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        return run(options.run)
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(FUNCTIONS, pool.map(count, FUNCTIONS), strict=True))
    text = table(counts)
    print(text)
    if options.write:
        results.replace("callgrind", counts)
        rewrite("callgrind", text)
