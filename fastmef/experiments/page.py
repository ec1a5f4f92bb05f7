"""Format results as Markdown tables, with data, seeds, command and commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmef.experiments.scoring import mean_and_deviation

Cell = str | float | tuple[float, float]
"""A text, a number, or mean and standard deviation."""


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], decimals: int = 4) -> list[str]:
    """Return the lines of a table; all columns except the first are right-aligned."""
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    lines += [f"| {' | '.join(_cell(cell, decimals) for cell in row)} |" for row in rows]
    return [*lines, ""]


def measured_on(result: Mapping[str, Any], data: str, seeds: str) -> list[str]:
    """Return the line under a table: data and split, seeds, command, commit."""
    commits = ", ".join(f"`{commit}`" for commit in result["commits"])
    return [f"*{data}; {seeds}; `{result['command']}`; commit {commits}.*", ""]


def seeds_of(count: int) -> str:
    """Return the seeds in words."""
    return "seed 0" if count == 1 else f"seeds 0 to {count - 1}, mean ± standard deviation"


def mean_cell(records: Sequence[Mapping[str, float]], key: str) -> Cell:
    """Return the mean of a value over seeds with its standard deviation, or the only value."""
    mean, deviation = mean_and_deviation(records, key)
    return (mean, deviation) if len(records) > 1 else mean


Records = Sequence[Mapping[str, float]]
"""The scores of a variant, one record for each seed."""


def is_clear(records: Records, base: Records, key: str) -> bool:
    """Return whether the means differ by more than both standard deviations together."""
    (mean, deviation), (other, other_deviation) = (
        mean_and_deviation(each, key) for each in (records, base)
    )
    return abs(mean - other) > deviation + other_deviation


def difference(records: Records, base: Records, key: str, decimals: int = 4) -> str:
    """Return the difference of the means, bold if it :func:`is_clear`."""
    change = (
        f"{mean_and_deviation(records, key)[0] - mean_and_deviation(base, key)[0]:+.{decimals}f}"
    )
    return f"**{change}**" if is_clear(records, base, key) else change


BOLD = "Bold: larger than the standard deviations of both together."


def figure(result: Mapping[str, Any], text: str, ending: str = "svg") -> list[str]:
    """Return the line that shows the figure of an experiment."""
    return [f"![{text}]({result['experiment']}.{ending})", ""]


def bullets(sentences: Sequence[str]) -> list[str]:
    """Return the lines of a bulleted list."""
    return [*(f"- {sentence}" for sentence in sentences), ""]


def _cell(cell: Cell, decimals: int) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        mean, deviation = cell
        return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"
    return f"{cell:.{decimals}f}"
