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


def cell(benchmark: dict[str, Any], ours: float | None) -> str:
    """Median ± interquartile range in ms, and the median as a multiple of fastmef's."""
    stats = benchmark["stats"]
    text = f"{1e3 * stats['median']:.2f} ± {1e3 * stats['iqr']:.2f}"
    return f"{text} ({stats['median'] / ours:.2f})" if ours else text


def table(op: str, benchmarks: list[dict[str, Any]]) -> list[str]:
    """Rows of sizes and modes, columns of implementations."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        rows.setdefault(info["row"], {})[info["name"]] = benchmark
    names = list(dict.fromkeys(benchmark["extra_info"]["name"] for benchmark in benchmarks))
    lines = [f"**{op}**", "", f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for row, by_name in rows.items():
        ours = by_name["fastmef"]["stats"]["median"] if "fastmef" in by_name else None
        cells = (
            cell(by_name[name], ours if name != "fastmef" else None) if name in by_name else ""
            for name in names
        )
        lines.append(f"| {row} | {' | '.join(cells)} |")
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
    ops: dict[str, list[dict[str, Any]]] = {}
    for benchmark in results["benchmarks"]:
        ops.setdefault(benchmark["extra_info"]["op"], []).append(benchmark)
    for op, benchmarks in ops.items():
        lines += table(op, benchmarks)
    return "\n".join(lines)


def main() -> None:
    rewrite("tables", "\n".join(render(Path(name)) for name in sys.argv[1:]))


if __name__ == "__main__":
    main()
