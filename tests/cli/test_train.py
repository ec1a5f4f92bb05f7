"""fastmef train: every setting has an option, a run can be started, resumed and refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from safetensors import safe_open

from fastmef.cli.train_settings import SETTINGS
from fastmef.data.images import write_image
from fastmef.training import TrainConfig


@pytest.fixture
def scenes(tmp_path):
    for n in range(2):
        light = np.random.default_rng(n).uniform(0.2, 1, (24, 30, 3))
        (tmp_path / "scenes" / f"s{n}").mkdir(parents=True)
        for name, gain in (("under", 0.4), ("over", 1.6)):
            pixels = np.uint8(255 * np.clip(light * gain, 0, 1))
            write_image(tmp_path / "scenes" / f"s{n}" / f"{name}.png", pixels)
    return tmp_path / "scenes"


SMALL = ("--width", 2, "--steps", 2, "--patch", 16, "--batch-size", 2, "--precision", "float32")
PAIRS = ("--recipe", "pairs", *SMALL)


def test_every_setting_has_an_option():
    assert {name for name, *_ in SETTINGS} == {f.name for f in dataclasses.fields(TrainConfig)}


def test_defaults_are_shown(run):
    text = " ".join(run("train", "--help").stdout.split())
    for field in dataclasses.fields(TrainConfig):
        assert "--" + field.name.replace("_", "-") in text
    assert f"[default: {TrainConfig().steps}]" in text
    assert "[default: None]" not in text


def test_options_arrive(run, monkeypatch, tmp_path):
    received = []

    def train(folders, out, config, resume, progress, exclude, **_options):
        received.append((folders, out, config, resume, exclude))
        return out / "model.safetensors"

    monkeypatch.setattr("fastmef.training.train", train)
    options = ("--scales", "0.5,0.5", "--no-skip-connections", "--luminance", "--gamma", "variance")
    run("train", tmp_path, "-o", tmp_path / "run", *options, "--seed", 3)
    run("train", tmp_path, "-o", tmp_path / "run", "--resume")
    run("train", tmp_path, "-o", tmp_path / "run")
    names = ("--exclude", "desk", "--exclude", "sun.hdr")
    run("train", tmp_path, tmp_path / "b", "-o", tmp_path / "run", *names)
    run("train", tmp_path, "-o", tmp_path / "run", "--recipe", "paper", "--scales", "0.5,0.5")
    run("train", tmp_path, "-o", tmp_path / "run", "--recipe", "default", "--resume")
    expected = TrainConfig(
        scales=(0.5, 0.5), skip_connections=False, luminance=True, gamma="variance", seed=3
    )
    out, plain = tmp_path / "run", TrainConfig()
    paper = TrainConfig.recipe("paper", scales=(0.5, 0.5))
    assert received == [
        ((tmp_path,), out, expected, False, ()),
        ((tmp_path,), out, None, True, ()),
        ((tmp_path,), out, plain, False, ()),
        ((tmp_path, tmp_path / "b"), out, plain, False, ("desk", "sun.hdr")),
        ((tmp_path,), out, paper, False, ()),
        ((tmp_path,), out, plain, True, ()),
    ]


def test_run_and_fuse(run, scenes, tmp_path):
    text = run("train", scenes, "-o", tmp_path / "run", *PAIRS).stdout
    weights = tmp_path / "run" / "model.safetensors"
    assert "step 2: " in text
    assert f"{weights} written" in text
    with safe_open(weights, "np") as file:
        assert '"width": 2' in file.metadata()["config"]
    pair = [scenes / "s0" / "under.png", scenes / "s0" / "over.png"]
    run("fuse", *pair, "-o", tmp_path / "fused.png", "--model", weights)


def test_default_recipe_runs(run, scenes, tmp_path):
    text = run("train", scenes, "-o", tmp_path / "run", *SMALL).stdout
    assert "step 2: " in text
    with safe_open(tmp_path / "run" / "model.safetensors", "np") as file:
        assert '"exposures": "any"' in file.metadata()["config"]


def test_interrupted(run, monkeypatch, tmp_path):
    def train(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmef.training.train", train)
    result = run("train", tmp_path, "-o", tmp_path / "run", status=130)
    assert "--resume" in result.stderr
    assert result.stderr.endswith("fastmef: stopped\n")


class TestRefused:
    def test_empty_folder(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "no scene" in refused("train", tmp_path / "empty", "-o", tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_missing_folder(self, refused, tmp_path):
        assert "no such folder" in refused("train", tmp_path / "none", "-o", tmp_path / "run")

    def test_nothing_to_resume(self, refused, scenes, tmp_path):
        line = refused("train", scenes, "-o", tmp_path / "run", "--resume")
        assert "no checkpoint" in line

    def test_corrupt_checkpoint(self, refused, scenes, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"damaged" * 10)
        line = refused("train", scenes, "-o", tmp_path / "run", "--resume")
        assert "checkpoint.safetensors: damaged" in line

    def test_existing_run(self, refused, scenes, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"")
        line = refused("train", scenes, "-o", tmp_path / "run")
        assert "holds a run already; --resume" in line

    def test_recipe(self, refused, scenes, tmp_path):
        line = refused("train", scenes, "-o", tmp_path / "run", "--recipe", "soup")
        assert "recipe must be one of default, paper, pairs, got 'soup'" in line

    def test_unknown_exclusion(self, refused, scenes, tmp_path):
        line = refused("train", scenes, "-o", tmp_path / "run", "--exclude", "s7")
        assert "cannot exclude s7" in line
        assert not (tmp_path / "run").exists()

    def test_bad_setting(self, refused, scenes, tmp_path):
        line = refused("train", scenes, "-o", tmp_path / "run", "--patch", 3)
        assert "patch must be from 16" in line

    def test_bad_numbers(self, run, scenes, tmp_path):
        result = run("train", scenes, "-o", tmp_path / "run", "--scales", "a,b", status=2)
        assert "'a,b' is not a list of numbers" in result.stderr
