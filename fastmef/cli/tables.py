"""Format plain tables, which can be piped and pasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DEFAULT_DECIMALS = 4


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | float]],
    decimals: Mapping[str, int] | None = None,
) -> str:
    """Align columns of text to the left and columns of numbers to the right.

    Args:
        header: titles of the columns.
        rows: rows with a cell for each title.
        decimals: title → number of decimals; other columns of numbers have four.
    """
    digits = [(decimals or {}).get(title, DEFAULT_DECIMALS) for title in header]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    cells = [list(header)]
    cells += [
        [
            cell if isinstance(cell, str) else f"{cell:.{places}f}"
            for cell, places in zip(row, digits, strict=True)
        ]
        for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
