"""Limits of the instructions that operations execute for each pixel, in budgets.json.

``goal`` is the count that an operation should reach. ``most`` is the limit: the goal if it has been
met, otherwise a little more than the last count. ``least_by_16_bytes`` is the share of bytes in
global memory that 16-byte accesses must move.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("budgets.json")
MARGIN = 1.02  # another version of a compiler may need a few more instructions


def read() -> dict[str, dict[str, float]]:
    return json.loads(FILE.read_text())


def exceeded(counted: dict[str, Any], budgets: dict[str, dict[str, float]]) -> list[str]:
    """Return a line for every pass that exceeds its budget or has none."""
    lines = []
    for key, entry in counted.items():
        if key not in budgets:
            lines.append(f"{key}: has no budget; --write gives it one")
            continue
        most, least = budgets[key]["most"], budgets[key].get("least_by_16_bytes", 0)
        if entry["instructions"] > most:
            lines.append(f"{key}: {entry['instructions']} instructions a pixel, at most {most}")
        if entry["by_16_bytes"] < least:
            share = f"{entry['by_16_bytes']:.0%} of the bytes by 16-byte accesses"
            lines.append(f"{key}: {share}, at least {least:.0%}")
    return lines


def tightened(
    counted: dict[str, Any], budgets: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Lower limits to the counts, but not below the goal; drop limits of passes without a count."""
    found = {}
    for key, entry in counted.items():
        budget = dict(budgets.get(key, {}))
        limit = max(math.ceil(MARGIN * entry["instructions"]), budget.get("goal", 0))
        budget["most"] = min(limit, budget.get("most", limit))
        share = math.floor(100 * entry["by_16_bytes"]) / 100
        if share > budget.get("least_by_16_bytes", 0):
            budget["least_by_16_bytes"] = share
        found[key] = budget
    return found


def write(budgets: dict[str, dict[str, float]]) -> None:
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in budgets.items())
    FILE.write_text(f"{{\n{lines}\n}}\n")
