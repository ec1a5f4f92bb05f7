"""Writes the score tables of README.md and of the weights' card from bench/results/quality.json.

python -m bench.quality DATA --cache FOLDER --write
python -m bench.scores
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.quality import checks, page
from bench.tables import rewrite

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "quality.json"
TARGETS = (ROOT / "README.md", ROOT / "fastmef" / "weights" / "default.md")


def render() -> str:
    pairs = page.unpack(json.loads(RESULT.read_text()), "pairs")
    lines = [
        f"Means over the {len(pairs)} validation pairs, 8-bit results, every method with its "
        "defaults: MEF-SSIM by",
        "variant (1 is best), HSV saturation, luma (0 to 255), shares of pixels by luma. The",
        "default before this one is `previous`. Longer brackets and failed checks are in",
        "`docs/quality.md`.",
        "",
        *page.table(checks.means(pairs)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    for target in TARGETS:
        rewrite("scores", render(), target)


if __name__ == "__main__":
    main()
