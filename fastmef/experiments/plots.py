"""Draw figures. The same result gives the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastmef.data.extras import import_extra

# Okabe and Ito's colours, which colour-blind readers can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^v<>PX*"


def save(path: Path, draw: Callable[[Any], None], columns: int = 1, height: float = 3.6) -> None:
    """Draw an SVG of ``columns`` axes side by side.

    Args:
        path: path of the file, which is replaced.
        draw: called with the array of axes.
        columns: number of axes.
        height: height in inches; every column is 4.5 inches wide.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figures = import_extra("matplotlib.figure", "experiments", "drawing figures")
    rc_context = import_extra("matplotlib", "experiments", "drawing figures").rc_context
    # Fixed identifiers and no date make files reproducible.
    with rc_context({"svg.hashsalt": "fastmef", "font.size": 9, "svg.fonttype": "none"}):
        drawn = figures.Figure(figsize=(4.5 * columns, height), layout="constrained")
        draw(drawn.subplots(1, columns, squeeze=False)[0])
        drawn.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")


def lines(
    axes: Any, x: list[float], series: dict[str, list[float]], xlabel: str, ylabel: str
) -> None:
    """Draw one line for each series, with a legend."""
    for index, (name, values) in enumerate(series.items()):
        style = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
        axes.plot(x, values, label=name, markersize=4, linewidth=1.2, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    _legend(axes)


def dots(
    axes: Any, names: list[str], series: dict[str, list[tuple[float, float]]], xlabel: str
) -> None:
    """Draw mean and standard deviation for each name, from top to bottom, one colour per series."""
    step = min(0.12, 0.8 / len(series))
    for index, (label, values) in enumerate(series.items()):
        rows = [row + step * index for row in range(len(names))]
        axes.errorbar(
            [mean for mean, _ in values],
            rows,
            xerr=[deviation for _, deviation in values],
            fmt=MARKERS[index % len(MARKERS)],
            color=COLORS[index % len(COLORS)],
            label=label,
            markersize=4,
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel)
    axes.grid(alpha=0.3)
    _legend(axes)


def _legend(axes: Any) -> None:
    """List the series above the axes, where they hide no value."""
    axes.legend(frameon=False, fontsize=7, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
