"""Writes the tables of bench/README.md from a result file of pytest-benchmark.

python bench/tables.py bench/results/cpu.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")


def rewrite(name: str, text: str) -> None:
    """Puts ``text`` between the marks of this name in README.md."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, rest = README.read_text().split(begin)
    README.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def implementation(benchmark: dict[str, Any]) -> str:
    return (benchmark.get("params") or {}).get("name", "copy of the same bytes")


def table(group: str, benchmarks: list[dict[str, Any]]) -> list[str]:
    ours = next(b["stats"]["median"] for b in benchmarks if implementation(b) == "fastmef")
    lines = [f"**{group}**", "", "| | median ms | IQR ms | times fastmef |", "|---|---|---|---|"]
    for benchmark in benchmarks:
        stats = benchmark["stats"]
        lines.append(
            f"| {implementation(benchmark)} | {1e3 * stats['median']:.2f} "
            f"| {1e3 * stats['iqr']:.2f} | {stats['median'] / ours:.2f} |"
        )
    return [*lines, ""]


def render(path: Path) -> str:
    results = json.loads(path.read_text())
    machine = results["machine_info"]
    cpu = machine["cpu"]
    lines = [
        f"`{path.name}`, {results['datetime'][:10]}: {cpu.get('brand_raw', cpu.get('brand', ''))}, "
        f"{machine['threads']} threads, {machine['system']}, Python {machine['python_version']}, "
        f"torch {machine['torch']}; C++ kernels: {machine['cpp']}.",
        "",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for benchmark in results["benchmarks"]:
        groups.setdefault(benchmark["group"], []).append(benchmark)
    for group, benchmarks in groups.items():
        lines += table(group, benchmarks)
    return "\n".join(lines)


def main() -> None:
    rewrite("tables", "\n".join(render(Path(name)) for name in sys.argv[1:]))


if __name__ == "__main__":
    main()
