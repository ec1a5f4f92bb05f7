"""Makes one file of the result files of a run on a GPU: called by bench/gpu.sh.

python -m bench.collect FOLDER_OF_RESULTS FOLDER_TO_WRITE NAME_OF_THE_GPU
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def collect(results: Path, gpu: str) -> dict[str, object]:
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
    path.write_text(json.dumps(collect(results, gpu), indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
