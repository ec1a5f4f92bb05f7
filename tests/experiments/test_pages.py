"""The pages in the documentation contain the values of the result files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastmef.experiments.run import EXPERIMENTS, render

PAGES = Path(__file__).parents[2] / "docs" / "experiments"
MEASURED = sorted(path.stem for path in PAGES.glob("*.json"))


@pytest.mark.parametrize("name", MEASURED)
def test_page(name):
    result = json.loads((PAGES / f"{name}.json").read_text())
    assert (PAGES / f"{name}.md").read_text() == render(EXPERIMENTS[name], result)
    for ending in ("svg", "jpg"):
        picture = PAGES / f"{name}.{ending}"
        assert (f"]({picture.name})" in (PAGES / f"{name}.md").read_text()) == picture.exists()
        assert not picture.exists() or picture.stat().st_size < 200_000
