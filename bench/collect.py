"""Makes one file of the result files of a run on a GPU: called by bench/gpu.sh.

python -m bench.collect FOLDER_OF_RESULTS FOLDER_TO_WRITE NAME_OF_THE_GPU
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

COPY = "copy of 1 GiB"  # the group whose speed the others are judged by


def bytes_per_ms(benchmark: dict[str, Any]) -> float:
    """By the GPU's own time; 0 where that or the bytes are unknown."""
    info = benchmark.get("extra_info", {})
    return info["bytes"] / info["device_ms"] if {"bytes", "device_ms"} <= info.keys() else 0.0


def add_shares(benchmarks: list[dict[str, Any]]) -> None:
    """The part of the bandwidth of a copy that each reaches, by the bytes it has to move."""
    copies = [bytes_per_ms(x) for x in benchmarks if x.get("group") == COPY]
    for benchmark in benchmarks:
        if copies and copies[0] and (speed := bytes_per_ms(benchmark)):
            benchmark["extra_info"]["share_of_copy"] = round(speed / copies[0], 4)


def table(benchmarks: list[dict[str, Any]]) -> str:
    """One line a benchmark: milliseconds with the wait, those of the GPU, share of a copy."""
    lines = []
    for benchmark in sorted(benchmarks, key=lambda x: (x.get("group") or "", x["name"])):
        info = benchmark.get("extra_info", {})
        times = [1000 * benchmark["stats"]["median"], info.get("device_ms", float("nan"))]
        share = f"{info['share_of_copy']:7.1%}" if "share_of_copy" in info else ""
        lines.append(f"{times[0]:9.3f} {times[1]:9.3f} {share:>7}  {benchmark['name']}")
    return "\n".join(lines)


def collect(results: Path, gpu: str) -> dict[str, Any]:
    """Metadata of the first file, the benchmarks of all, and how every stage ended."""
    stages = []
    for line in (results / "stages").read_text().splitlines():
        name, status, seconds = line.rsplit(" ", 2)
        stages.append({"name": name, "status": int(status), "seconds": int(seconds)})
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    first = found[0] if found else {}
    kept = ("machine_info", "commit_info", "datetime", "version")
    benchmarks = [benchmark for one in found for benchmark in one["benchmarks"]]
    for benchmark in benchmarks:
        benchmark["stats"].pop("data", None)
    add_shares(benchmarks)
    return {
        "gpu": gpu,
        "stages": stages,
        **{name: first[name] for name in kept if name in first},
        "benchmarks": benchmarks,
    }


def main() -> None:
    results, out, gpu = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    name = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    path = out / f"gpu-{name}.json"
    found = collect(results, gpu)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["benchmarks"]))
    print(path)


if __name__ == "__main__":
    main()
