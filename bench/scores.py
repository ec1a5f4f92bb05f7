"""Write the score tables of README.md and of the weights' card from bench/results/quality.json.

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
# Methods and MEF-SSIM variants of the table of the front page.
METHODS = ("plain mean", "OpenCV Mertens", "enfuse", "FMMEF", "fastmef")
VARIANTS = ("ma2015_3_scales", "mefnet", "color2018")


def card(result: Mapping[str, Any]) -> str:
    """Return every score of the validation pairs."""
    pairs = page.unpack(result, "pairs")
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


def front_page(result: Mapping[str, Any]) -> str:
    """Return MEF-SSIM of pairs and of longer brackets, beside public methods."""
    groups = {name: page.unpack(result, name) for name in ("pairs", "held_out")}
    pairs, held_out = (checks.means(records) for records in groups.values())
    titles = [page.TITLES[column] for column in VARIANTS]
    lines = [
        f"Mean MEF-SSIM of 8-bit results (1 is best): {len(groups['pairs'])} pairs of photographs, "
        f"and {len(groups['held_out'])} brackets of 3 to 30",
        "frames of scenes held back from training. fastmef is trained on these measures.",
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
