"""Every command and every line of Python in README.md and the guides runs as it is written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import fastmef
from fastmef.cli import main
from fastmef.data.images import read_image, write_image

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("index", "photographs", "metrics"))]
SAMPLES = Path(fastmef.__file__).parent / "samples"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def commands(page: str) -> list[str]:
    lines = "".join(blocks(page, "sh")).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    for name, number in (("dark", 1), ("middle", 2), ("bright", 4)):
        shutil.copy(SAMPLES / "mountain" / f"{number}.jpg", tmp_path / f"{name}.jpg")
        write_image(tmp_path / f"{name}.tif", read_image(tmp_path / f"{name}.jpg").pixels)
    write_image(tmp_path / "mask.png", np.full((253, 420, 3), 255, np.uint8))
    shutil.copytree(SAMPLES / "mountain", tmp_path / "photos" / "mountain")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_commands(page, folder):
    written = set()
    for line in commands(page):
        if not line.startswith("fastmef "):
            # Installation and the tests themselves: `.ci/run` does it in these words.
            assert line in (ROOT / ".ci" / "run").read_text(), f"nobody runs: {line}"
            continue
        arguments = shlex.split(line)[1:]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}{result.exception!r}"
        if "-o" in arguments:
            written.add(arguments[arguments.index("-o") + 1])
    assert all((folder / name).stat().st_size for name in written)
    assert written or page == "docs/metrics.md"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/metrics.md"])
def test_python(page, folder):
    (code,) = blocks(page, "python")
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    assert names["fused"].shape == (253, 420, 3) and names["fused"].dtype == np.uint8
    if "loss" in names:
        exposures = torch.rand(1, 2, 3, 32, 32)
        assert names["loss"](names["net"](exposures).fused, exposures).isfinite()


def test_copy_in_strips(folder):
    (code,) = blocks("docs/files.md", "python")
    exec(compile(code, "docs/files.md", "exec"), {})
    assert np.array_equal(read_image("copy.png").pixels, read_image("dark.tif").pixels)


def test_readme_is_short():
    """The README fits on one screen, without its pictures and tables."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 80


@pytest.mark.parametrize("page", ["README.md", "fastmef/samples/README.md"])
def test_links(page):
    """mkdocs checks the links of the other pages."""
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", text)
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing
    assert links or page != "README.md"
