"""Tables line up."""

from __future__ import annotations

from fastmef.cli.tables import table


def test_alignment():
    assert table(("name", "score", "time"), [("a", 0.5, ""), ("longer", 12.34567, "1 s")]) == (
        "name      score  time\na        0.5000\nlonger  12.3457  1 s"
    )
