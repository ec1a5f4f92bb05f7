"""Write the score tables of README.md and the card of the weights from bench/results/quality.json.

python -m bench.quality DATA --cache FOLDER --write
python -m bench.scores
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.quality import checks, page
from bench.tables import RESULTS, ROOT, rewrite

CARD = ROOT / "fastmef" / "weights" / "default.md"
FRONT_PAGE = ROOT / "README.md"
# Methods and MEF-SSIM variants in the table of the front page.
METHODS = ("plain mean", "OpenCV Mertens", "enfuse", "FMMEF", "fastmef")
VARIANTS = ("ma2015_3_scales", "mefnet", "color2018")


def card(result: Mapping[str, Any]) -> str:
    """Return the table for the card: all scores on the validation pairs."""
    pairs = page.unpack(result, "pairs")
    lines = [
        f"The table has means over the {len(pairs)} validation pairs, for 8-bit results of all "
        "methods with",
        "their defaults: MEF-SSIM in its variants (1 is best), HSV saturation, mean luma (0 to",
        "255), and shares of pixels with the given luma. `previous` is the former default. Longer",
        "brackets and failed checks are in `docs/quality.md`.",
        "",
        *page.table(checks.means(pairs)),
    ]
    return "\n".join(lines) + "\n"


def front_page(result: Mapping[str, Any]) -> str:
    """Return the table for the front page: MEF-SSIM of public methods on pairs and brackets."""
    groups = {name: page.unpack(result, name) for name in ("pairs", "held_out")}
    pairs, held_out = (checks.means(records) for records in groups.values())
    titles = [page.TITLES[column] for column in VARIANTS]
    lines = [
        "The table has the mean MEF-SSIM of 8-bit results (1 is best) on "
        f"{len(groups['pairs'])} pairs of photographs and on",
        f"{len(groups['held_out'])} brackets of 3 to 30 frames from scenes held back from "
        "training. fastmef is trained on these measures.",
        "Brightness, colour and failed checks: [Quality](docs/quality.md).",
        "",
        f"| | {' | '.join(f'pairs, {title}' for title in titles)} "
        f"| {' | '.join(f'brackets, {title}' for title in titles)} |",
        f"|---|{'---:|' * 2 * len(titles)}",
    ]
    for method in METHODS:
        scores = [means[method][column] for means in (pairs, held_out) for column in VARIANTS]
        lines.append(f"| {method} | {' | '.join(f'{score:.4f}' for score in scores)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    result = json.loads((RESULTS / "quality.json").read_text())
    rewrite("scores", card(result), CARD)
    rewrite("scores", front_page(result), FRONT_PAGE)


if __name__ == "__main__":
    main()
