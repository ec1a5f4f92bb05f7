"""docs/architecture.md says which files an operation has, and no shared file names one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmef import ops  # noqa: F401  # declares every operation
from fastmef.ops.common.operation import OPERATIONS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="a checkout")
# Files and folders that the operations share.
FILES = ("setup.py", "pyproject.toml", "fastmef/backends.py", "fastmef/ops/__init__.py")
FILES += ("tests/support/conformance.py", "tests/support/emulation.py")
FOLDERS = ("fastmef/ops/common", "kernels/common", "csrc/common", "csrc/cpu/runtime")
FOLDERS += ("csrc/cuda/runtime", "csrc/cpu/window")


def files_of_an_operation() -> list[str]:
    (section,) = re.findall(r"^## Add an operation$(.*?)^## ", PAGE.read_text(), re.M | re.S)
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [path for row in rows for path in re.findall(r"`([^`]+)`", row.split("|")[2])]


def shared_files() -> Iterator[Path]:
    yield from (ROOT / name for name in FILES)
    for folder in FOLDERS:
        yield from (x for x in (ROOT / folder).iterdir() if x.suffix in (".py", ".h", ".cpp"))


def test_an_operation_has_at_most_eight_files() -> None:
    files = files_of_an_operation()
    assert 5 < len(files) == len(set(files)) <= 8
    names = {path.stem for path in (ROOT / "fastmef" / "ops").glob("*.py")}
    for file in files:
        assert any((ROOT / file.replace("<operation>", name)).exists() for name in names), file


def test_what_operations_share_names_none_of_them() -> None:
    """Declarations, sources and bindings are found by their folders and not listed anywhere."""
    folders = {path.stem for path in (ROOT / "fastmef" / "ops").glob("[a-z]*.py")}
    operations, places = "|".join(OPERATIONS), "|".join(folders)
    named = rf"[\"']({operations})[\"']|import .*\b({places})\b|\w/({places})/"
    for file in shared_files():
        assert not re.search(named, file.read_text()), file
