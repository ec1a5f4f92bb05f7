"""Merge the result files of a run on a GPU into one. bench/gpu.sh calls this.

python -m bench.collect CALL FOLDER_TO_WRITE NAME_OF_THE_GPU FOLDER_OF_RESULTS
python -m bench.collect merge FOLDER_TO_WRITE NAME_OF_THE_GPU    # what the calls have written
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

COPY = "copy of 1 GiB"  # the group with which the bandwidth of the others is compared


def bytes_per_ms(benchmark: dict[str, Any]) -> float:
    """Return bytes moved per millisecond of GPU time; 0 if either is unknown."""
    info = benchmark.get("extra_info", {})
    return info["bytes"] / info["device_ms"] if {"bytes", "device_ms"} <= info.keys() else 0.0


def add_shares(benchmarks: list[dict[str, Any]]) -> None:
    """Add to each benchmark its bandwidth divided by that of a copy."""
    copies = [bytes_per_ms(x) for x in benchmarks if x.get("group") == COPY]
    for benchmark in benchmarks:
        if copies and copies[0] and (speed := bytes_per_ms(benchmark)):
            benchmark["extra_info"]["share_of_copy"] = round(speed / copies[0], 4)


def name_of(benchmark: dict[str, Any]) -> str:
    """Return the name of the implementation; a copy or bare memory traffic has none."""
    return (benchmark.get("params") or {}).get("name", "")


def add_multiples(benchmarks: list[dict[str, Any]]) -> None:
    """Add to each benchmark its time divided by fastmef's time in the same group."""
    ours = {(x.get("group"), name_of(x)): x for x in benchmarks}
    for benchmark in benchmarks:
        name = name_of(benchmark)
        # "fused-ssim, luminance" computes what "fastmef, luminance" does.
        our_name = ", ".join(["fastmef", *name.split(", ")[1:]])
        our = ours.get((benchmark.get("group"), our_name))
        if our is None or name == our_name:
            continue
        info = benchmark.setdefault("extra_info", {})
        info["multiple"] = round(benchmark["stats"]["median"] / our["stats"]["median"], 3)
        our_info = our.get("extra_info", {})
        if "device_ms" in info and "device_ms" in our_info:
            info["device_multiple"] = round(info["device_ms"] / our_info["device_ms"], 3)


def table(benchmarks: list[dict[str, Any]]) -> str:
    """Return a line for each benchmark: milliseconds of call and GPU, share of a copy, multiple."""
    lines = []
    for benchmark in sorted(benchmarks, key=lambda x: (x.get("group") or "", x["name"])):
        info = benchmark.get("extra_info", {})
        times = [1000 * benchmark["stats"]["median"], info.get("device_ms", float("nan"))]
        share = f"{info['share_of_copy']:7.1%}" if "share_of_copy" in info else ""
        multiple = info.get("device_multiple", info.get("multiple"))
        against = f"({multiple:.2f})" if multiple is not None else ""
        numbers = f"{times[0]:9.3f} {times[1]:9.3f} {share:>7} {against:>9}"
        lines.append(f"{numbers}  {benchmark['name']}")
    return "\n".join(lines)


def load(path: Path) -> dict[str, Any]:
    """Read a result file; return {} if pytest-benchmark was stopped before it wrote anything."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return {}


def collect(results: Path, gpu: str) -> dict[str, Any]:
    """Return the metadata of the first file of a call, all benchmarks, and how each stage ended."""
    stages = []
    for line in (results / "stages").read_text().splitlines():
        name, status, seconds = line.rsplit(" ", 2)
        stages.append({"name": name, "status": int(status), "seconds": int(seconds)})
    found = [one for path in sorted(results.glob("*.json")) if (one := load(path))]
    first = found[0] if found else {}
    kept = ("machine_info", "commit_info", "datetime", "version")
    benchmarks = [benchmark for one in found for benchmark in one["benchmarks"]]
    for benchmark in benchmarks:
        benchmark["stats"].pop("data", None)
    counted = load(results / "ncu") if (results / "ncu").exists() else {}
    return {
        "gpu": gpu,
        "stages": stages,
        **{name: first[name] for name in kept if name in first},
        **({"instructions": counted} if counted else {}),
        "benchmarks": benchmarks,
    }


def merge(calls: list[dict[str, Any]], gpu: str) -> dict[str, Any]:
    """Return the results of several calls as one."""
    merged: dict[str, Any] = {"gpu": gpu, "stages": [], "benchmarks": []}
    for call in calls:
        merged["stages"] += call.pop("stages")
        merged["benchmarks"] += call.pop("benchmarks")
        merged = {**call, **merged}
    add_shares(merged["benchmarks"])
    add_multiples(merged["benchmarks"])
    return merged


def main() -> None:
    call, out, gpu, *results = sys.argv[1:]
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    if call == "merge":
        parts = sorted(Path(out).glob(f"{name}.*.json"))
        if not parts:
            raise SystemExit(f"no call has written {name}.CALL.json to {out}")
        found = merge([load(part) for part in parts if load(part)], gpu)
        path = Path(out) / f"{name}.json"
        print(table(found["benchmarks"]))
    else:
        found = collect(Path(results[0]), gpu)
        path = Path(out) / f"{name}.{call}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
