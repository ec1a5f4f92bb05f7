"""Write the tables of docs/benchmarks from the result files.

python -m bench.tables
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
CPU_PAGE = ROOT / "docs" / "benchmarks" / "cpu.md"
COMPILED_PAGE = ROOT / "docs" / "benchmarks" / "compiled.md"
TRAINING_PAGE = ROOT / "docs" / "benchmarks" / "training.md"
# Name of the marks around a table → page.
PAGES = {
    "speed": CPU_PAGE,
    "fusion": CPU_PAGE,
    "tables": CPU_PAGE,
    "callgrind": CPU_PAGE,
    "instructions": COMPILED_PAGE,
    "triton": COMPILED_PAGE,
    "cuda": COMPILED_PAGE,
    "training": TRAINING_PAGE,
}
# (Operation, row) of the result file → label in the summary.
SUMMARY = {
    ("weighted_ssim_loss", "8x250x250, 1 scale"): "loss and gradient, 8×250×250",
    ("weighted_ssim_loss", "1x1080x1920, 1 scale"): "loss and gradient, 1920×1080",
    ("fusion_loss", "8x250x250, 1 scale"): "from logits, with gradient, 8×250×250",
    ("softmax_fuse", "uint8, planar"): "softmax and weighted sum, 24 MP, uint8",
    ("ssim", "8x250x250, value and gradient"): "SSIM and gradient, 8×250×250",
    ("MEF-SSIM ma2015", "score"): "MEF-SSIM, 12 MP, 3 scales",
}
OURS = ("eager, conv2d", "eager", "torch.compile")  # in the order of the columns
PHASES = ("network", "loss", "optimizer")  # of a training step; forward and backward are added


def rewrite(name: str, text: str, file: Path | None = None) -> None:
    """Write ``text`` between the marks of this name, by default on its documentation page."""
    file = PAGES[name] if file is None else file
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, rest = file.read_text().split(begin)
    file.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def cell(benchmark: dict[str, Any], ours: float | None) -> str:
    """Return median ± interquartile range in ms, and the median divided by fastmef's."""
    stats = benchmark["stats"]
    text = f"{1e3 * stats['median']:.2f} ± {1e3 * stats['iqr']:.2f}"
    return f"{text} ({stats['median'] / ours:.2f})" if ours else text


def table(op: str, benchmarks: list[dict[str, Any]]) -> list[str]:
    """Return a table whose rows are sizes and modes and whose columns are implementations."""
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


def summary(results: dict[str, Any]) -> str:
    """Return a table with the times of PyTorch and of the fastest peer, divided by fastmef's."""
    lines = [
        "| | fastmef | PyTorch, `conv2d` | PyTorch | `torch.compile` | fastest peer |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (op, row), title in SUMMARY.items():
        times = {
            benchmark["extra_info"]["name"]: 1e3 * benchmark["stats"]["median"]
            for benchmark in results["benchmarks"]
            if benchmark["extra_info"]["op"].startswith(op)
            and benchmark["extra_info"]["row"] == row
        }
        ours = times.pop("fastmef")
        cells = [f"{times[name] / ours:.1f}×" if name in times else "" for name in OURS]
        peers = {
            name: time for name, time in times.items() if not name.startswith((*OURS, "fastmef"))
        }
        peer = min(peers, key=lambda name: peers[name], default="")
        cells.append(f"{peer} {peers[peer] / ours:.1f}×" if peer else "")
        lines.append(f"| {title} | {ours:.1f} ms | {' | '.join(cells)} |")
    return "\n".join(lines)


def render(results: dict[str, Any], name: str) -> str:
    """Return the tables of one result file below a line about its machine."""
    machine = results["machine_info"]
    cpu = machine["cpu"]
    lines = [
        f"`{name}`, {results['datetime'][:10]}: {cpu.get('brand_raw', cpu.get('brand', ''))}, "
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


def training(results: dict[str, Any]) -> str:
    """Return the table of training steps below a line about their machine."""
    machine = results["machine"]
    lines = [
        f"`training_step.json`: {machine['cpu']}, {machine['threads']} threads, torch"
        f" {results['torch']}; the fastest of {results['steps']} steps in each of several"
        f" processes. Load average before it: {machine['load']}.",
        "",
        "| network | step | ms | times as fast | network, loss, optimiser | losses off float64's |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for case in results["cases"]:
        plain = case["variants"]["plain"]["seconds"]
        name = f"width {case['width']}, batch {case['batch']}"
        for variant, found in case["variants"].items():
            parts = [found["times"][phase] for phase in PHASES if found["times"]]
            shares = ", ".join(f"{part / found['seconds']:.0%}" for part in parts)
            gap = f"{found['disagreement']:.1e}" if "disagreement" in found else ""
            lines.append(
                f"| {name} | {variant} | {1000 * found['seconds']:.0f} |"
                f" {plain / found['seconds']:.2f} | {shares} | {gap} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    results = {name: json.loads((RESULTS / name).read_text()) for name in ("cpu.json", "fuse.json")}
    rewrite("speed", summary(results["cpu.json"]) + "\n")
    rewrite("tables", render(results["cpu.json"], "cpu.json"))
    rewrite("fusion", render(results["fuse.json"], "fuse.json"))
    rewrite("training", training(json.loads((RESULTS / "training_step.json").read_text())))


if __name__ == "__main__":
    main()
