"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from fastmef import FusionNet
from fastmef.data.images import read_image

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder, and return what it prints."""
    monkeypatch.chdir(tmp_path)

    def invoke(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return invoke


def numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def test_fuse(run, tmp_path):
    text = run("fuse")
    first, second = numbers(r"(\d+\.\d)(?:,|$)", text.splitlines()[0])
    assert second > first
    shares = numbers(r"\d\.\d\d", text.splitlines()[1])
    assert len(shares) == 4 and sum(shares) == pytest.approx(1, abs=0.02)
    for name, level in (("fused.png", first), ("brighter.png", second)):
        assert read_image(tmp_path / name).pixels.mean() == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize("options", [(), ("--compile", "aot_eager")], ids=["eager", "compiled"])
def test_training_loop(run, tmp_path, options):
    losses = numbers(r"loss (\d\.\d+)", run("training_loop", "--steps", "3", *options))
    assert len(losses) == 3 and all(0 < loss < 2 for loss in losses)
    # Three updates have moved the running means of batch normalisation away from zero.
    trained = FusionNet.from_pretrained(tmp_path / "net.safetensors").state_dict()
    means = [value for name, value in trained.items() if name.endswith("running_mean")]
    assert means and all(mean.abs().max() > 0 for mean in means)


def test_lightning(run):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    text = run("lightning")
    (score,) = numbers(r"'mef_ssim': (\d\.\d+)", text)
    (loss,) = numbers(r"'loss': (\d\.\d+)", text)
    assert 0 < score <= 1 and 0 < loss < 2


def test_evaluate(run):
    mean, fused = numbers(r": MEF-SSIM ma2015, 3 scales (\d\.\d+)", text := run("evaluate"))
    assert mean < fused <= 1
    assert "mefnet" in text and "color2018" in text


def test_own_gamma(run):
    losses = numbers(r"loss (\d\.\d+)", run("own_gamma"))
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 4


def test_export(run):
    text = run("export")
    assert "(1, 3, 256, 384), operators of aten;" in text
    assert numbers(r"error (\S+)", text)[0] < 1e-5


def test_every_example_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    # Needs HDR files; the functions it calls have tests of their own.
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested | {"render_exposures"}


def test_the_page_includes_every_example_that_runs_alone():
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    included = re.findall(r"^--8<--\nexamples/(\w+)\.py\n--8<--$", page, re.M)
    assert {*included, "render_exposures"} == {path.stem for path in EXAMPLES.glob("*.py")}
