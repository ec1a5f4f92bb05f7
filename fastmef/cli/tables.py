"""Plain tables: they can be piped, pasted and read without colours."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Columns of text to the left, of numbers (four decimals) to the right."""
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    cells = [list(header)]
    cells += [[cell if isinstance(cell, str) else f"{cell:.4f}" for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
