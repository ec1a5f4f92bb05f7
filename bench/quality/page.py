"""Write the result as JSON, and docs/quality.md from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bench.quality import brackets, checks, methods, robustness
from fastmef.cli.tables import DEFAULT_DECIMALS
from fastmef.data.render import (
    CLIPPED,
    FEWEST_STOPS,
    HIGHLIGHT,
    MOST_STOPS,
    SHADOW,
)
from fastmef.metrics import DECIMALS, SCORES

TITLES = {
    "ma2015_1_scale": "`ma2015`, 1 scale",
    "ma2015_3_scales": "`ma2015`, 3 scales",
    "mefnet": "`mefnet`",
    "color2018": "`color2018`",
    "saturation": "saturation",
    "brightness": "brightness",
    "near_white": "≥ 250, %",
    "near_black": "≤ 5, %",
}
BESIDE = ("ma2015_3_scales", "brightness", "near_white")  # columns of the table of every bracket

Records = Mapping[str, Mapping[str, Mapping[str, float]]]


def dump(result: Mapping[str, Any]) -> str:
    """Return JSON with the numbers of one method and bracket on one line."""
    text = json.dumps(result, indent=1, ensure_ascii=False)
    lists = re.sub(r"\[\s+([\s\d.,e+-]*?)\s+\]", lambda x: f"[{' '.join(x[1].split())}]", text)
    return lists + "\n"


def pack(records: Records) -> dict[str, dict[str, list[float]]]:
    """Return the values of each record in the order of the columns, with five decimals."""
    return {
        name: {label: [round(x[column], 5) for column in SCORES] for label, x in scores.items()}
        for name, scores in records.items()
    }


def unpack(result: Mapping[str, Any], group: str) -> dict[str, dict[str, dict[str, float]]]:
    """Undo :func:`pack` for one group of a result."""
    columns = result["columns"]
    return {
        name: {x: dict(zip(columns, values, strict=True)) for x, values in scores.items()}
        for name, scores in result["records"][group].items()
    }


def render(result: Mapping[str, Any]) -> str:
    """Return the page."""
    machine, pairs, held_out = (
        result["machine"],
        unpack(result, "pairs"),
        unpack(result, "held_out"),
    )
    lines = [
        "<!-- Written by `python -m bench.quality --write`; do not edit. -->",
        "",
        "# Quality beside other methods",
        "",
        f"{result['date']}: {machine['cpu']}, Python {machine['python']}, torch "
        f"{machine['torch']}, OpenCV {machine['opencv']}, {machine['enfuse']}; C++ kernels: "
        f"{machine['cpp']}.",
        "",
        "All results are 8-bit, and all methods run with their defaults. MEF-SSIM is best at 1; "
        "its",
        "variants are different measures. Saturation is the mean HSV saturation, brightness the",
        "mean luma, and the last two columns are shares of pixels with the given luma.",
        f"{methods.FMMEF} (Li, Ma, Yong, Zhang, TIP 29, 2020) is implemented in this project",
        "(`bench/baselines/fmmef.py`). Models of fastmef: "
        + ", ".join(f"**{label}** = `{name}`" for label, name in result["models"].items())
        + ".",
        "",
        f"## {len(pairs)} validation pairs",
        "",
        "Every 8th pair is held back from training.",
        "",
        *table(checks.means(pairs)),
        "",
        f"## {len(held_out)} brackets of scenes held back from training",
        "",
        f"These are the stacks {_listed(brackets.HELD_OUT_STACKS)} and the HDR files",
        f"{_listed(brackets.HELD_OUT_HDR)},",
        f"complete and thinned to {', '.join(map(str, brackets.COUNTS))} equally spaced frames",
        f"with both ends. An HDR file is rendered to {brackets.RENDERED} frames at equally spaced",
        f"exposures, {FEWEST_STOPS:g} to {MOST_STOPS:g} stops in all: "
        f"{100 - 100 * CLIPPED:g} % of the pixels have a linear luma of",
        f"{HIGHLIGHT} or less in the darkest frame, and "
        f"{100 * CLIPPED:g} % of {SHADOW} or less in the brightest.",
        "The weights of fastmef 0.1.0 had seen two frames each of `belgium_house` and",
        "`temple_night`, which are among the training pairs.",
        "",
        *table(checks.means(held_out)),
        "",
        "By number of frames, `ma2015` with 3 scales:",
        "",
        *_by_count(held_out),
        "",
        "Every bracket, `ma2015` with 3 scales · brightness · percent of pixels ≥ 250:",
        "",
        *_every_bracket(held_out),
        "",
        "## Behaviour",
        "",
        "Values are levels of 255, the worst of "
        + _listed(next(iter(result["robustness"].values())))
        + ".",
        "They are the mean change if a frame is given twice, or if an all-black or an all-white",
        "frame is added; the largest change with another order of the frames; and the difference",
        f"of the outer {robustness.BORDER} rows and columns from a fusion of the same photographs",
        f"with {robustness.MARGIN} mirrored pixels around them.",
        "",
        *_behaviour(result["robustness"]),
        "",
        "## Checks",
        "",
        *_checks(result["checks"]),
    ]
    return "\n".join(lines)


def table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a table with a row for each method and a column for each score."""
    lines = [f"| | {' | '.join(TITLES.values())} |", f"|---|{'---:|' * len(TITLES)}"]
    for label, scores in rows.items():
        cells = (_number(column, scores[column]) for column in TITLES)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _number(column: str, value: float) -> str:
    return f"{value:.{DECIMALS.get(column, DEFAULT_DECIMALS)}f}"


def _listed(names: Any) -> str:
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def _by_count(records: Records) -> list[str]:
    counts = sorted({int(name.rsplit("/", 1)[1]) for name in records})
    groups = {
        count: checks.means({x: y for x, y in records.items() if x.endswith(f"/{count}")})
        for count in counts
    }
    lines = [f"| frames | {' | '.join(map(str, counts))} |", f"|---|{'---:|' * len(counts)}"]
    for label in next(iter(records.values())):
        cells = (f"{groups[count][label]['ma2015_3_scales']:.4f}" for count in counts)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _every_bracket(records: Records) -> list[str]:
    single = (methods.DARKEST, methods.BRIGHTEST)
    labels = [label for label in next(iter(records.values())) if label not in single]
    lines = [f"| | {' | '.join(labels)} |", f"|---|{'---:|' * len(labels)}"]
    for name, scores in records.items():
        cells = (
            " · ".join(_number(column, scores[label][column]) for column in BESIDE)
            for label in labels
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _behaviour(results: Mapping[str, Records]) -> list[str]:
    columns = list(next(iter(next(iter(results.values())).values())))
    titles = (column.replace("_", ", ") for column in columns)
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---:|' * len(columns)}"]
    for label, scenes in results.items():
        cells = (f"{max(x[column] for x in scenes.values()):.2f}" for column in columns)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _checks(results: Mapping[str, list[str]]) -> list[str]:
    lines = []
    for label, texts in results.items():
        lines += [f"**{label}**", "", "```text", *texts, "```", ""]
    return lines
