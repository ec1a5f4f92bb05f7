"""Writes the score table of README.md and of the weights' card from the result of `fastmef eval`.

fastmef eval FOLDER --split validation --json bench/results/scores.json --force
python bench/scores.py
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "scores.json"
TARGETS = (ROOT / "README.md", ROOT / "fastmef" / "weights" / "default.md")
BEGIN, END = "<!-- scores: begin -->\n", "<!-- scores: end -->\n"
COLUMNS = {
    "ma2015_1_scale": "`ma2015`, 1 scale",
    "ma2015_3_scales": "`ma2015`, 3 scales",
    "mefnet": "`mefnet`",
    "color2018": "`color2018`",
    "saturation": "mean saturation",
}


def render() -> str:
    result = json.loads(RESULT.read_text())
    lines = [
        f"Means over the {len(result['scenes'])} validation scenes, 8-bit results: MEF-SSIM by "
        "variant (1 is best)",
        "and the mean HSV saturation. fastmef is `fastmef fuse` with its defaults, the network",
        f"with {result['refine']} refinement steps and `color={result['color']}`; the card of the "
        "weights has the network alone.",
        "",
        f"| | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    for method, means in result["means"].items():
        cells = " | ".join(f"{means[key]:.4f}" for key in COLUMNS)
        lines.append(f"| {method} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    for target in TARGETS:
        before, rest = target.read_text().split(BEGIN)
        _, after = rest.split(END)
        target.write_text(f"{before}{BEGIN}{render()}{END}{after}")


if __name__ == "__main__":
    main()
