"""Values that two files of the project repeat agree."""

from __future__ import annotations

import re
from pathlib import Path

import fastmef

ROOT = Path(__file__).parents[1]


def test_pre_commit_uses_the_versions_of_the_lint_extra():
    (extra,) = re.findall(r"^lint = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    pinned = re.findall(r'"([\w-]+==[\d.]+)"', (ROOT / ".pre-commit-config.yaml").read_text())
    assert {"ruff", "clang-format"} <= {pin.split("==")[0] for pin in pinned}
    assert set(pinned) <= set(re.findall(r'"([\w-]+==[\d.]+)"', extra))


def test_the_citation_has_the_version():
    assert f"\nversion: {fastmef.__version__}\n" in (ROOT / "CITATION.cff").read_text()
