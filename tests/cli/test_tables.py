"""Tables line up."""

from __future__ import annotations

from fastmef.cli.tables import table


def test_alignment():
    assert table(("name", "score", "time"), [("a", 0.5, ""), ("longer", 12.34567, "1 s")]) == (
        "name      score  time\na        0.5000\nlonger  12.3457  1 s"
    )


def test_decimals_by_title():
    rows = [("a", 0.25, 117.5321), ("b", 0.5, 9)]
    assert table(("", "score", "brightness"), rows, {"brightness": 1}) == (
        "    score  brightness\na  0.2500       117.5\nb  0.5000         9.0"
    )
