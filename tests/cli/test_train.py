"""fastmef train: every setting has an option, a run can be started, resumed and refused."""

from __future__ import annotations

import dataclasses
import json

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


class TestDryRun:
    def test_lists_what_is_used_and_what_not(self, run, scenes, tmp_path):
        (scenes / "s1" / "over.png").write_bytes(b"damaged")
        (scenes / "s2").mkdir()
        for name in ("1", "2", "3"):
            write_image(scenes / "s2" / f"{name}.png", np.zeros((20, 30, 3), np.uint8))
        (scenes / "Label").mkdir()
        write_image(scenes / "Label" / "s0.png", np.zeros((20, 30, 3), np.uint8))
        lines = run("train", scenes, "--dry-run").stdout.splitlines()
        assert lines[:4] == [
            "training:",
            f"  {scenes / 's2'}: 3 exposures of 30×20",
            "validation:",
            f"  {scenes / 's0'}: 2 exposures of 30×24",
        ]
        assert lines[4] == "not used:" and len(lines) == 9
        assert f"  {scenes / 'Label'}: the fused images that come with SICE" in lines[5:7]
        assert any(f"{scenes / 's1' / 'over.png'}: not an image" in line for line in lines[5:7])
        assert lines[7].startswith("1 scenes for training, 1 for validation; 0 MB decoded")
        assert lines[8] == "1 scenes cannot be used: training needs --skip-faulty"
        assert not (tmp_path / "run").exists()

    def test_what_is_skipped_is_named(self, run, scenes, tmp_path):
        (scenes / "s1" / "notes.txt").touch()
        (scenes / "broken").mkdir()
        write_image(scenes / "broken" / "1.png", np.zeros((20, 30, 3), np.uint8))
        options = ("-o", tmp_path / "run", *SMALL, "--skip-faulty", "--pictures", 0)
        result = run("train", scenes, *options)
        assert f"not used: {scenes / 'broken'}: a single image, 1.png" in result.stderr
        assert "step 2: " in result.stdout and "network" in result.stdout
        assert not (tmp_path / "run" / "pictures").exists()


def test_output_is_needed(run, scenes):
    assert "Missing option '-o' / '--output'" in run("train", scenes, status=2).stderr


def test_lists_of_settings(run, scenes, tmp_path):
    lists = ("--counts", "2,3", "--hdr-stops", "", "--hdr-curves", "s,linear", "--validation", "0")
    run("train", scenes, "-o", tmp_path / "run", *SMALL, *lists, "--ema", 0.9)
    with safe_open(tmp_path / "run" / "checkpoint.safetensors", "np") as file:
        config = json.loads(file.metadata()["state"])["config"]
    assert config["counts"] == [2, 3] and config["hdr_stops"] == []
    assert config["hdr_curves"] == ["s", "linear"] and config["ema"] == 0.9


def test_plot(run, refused, scenes, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    run("train", scenes, "-o", tmp_path / "run", *SMALL)
    assert run("plot", tmp_path / "run").stdout == f"{tmp_path / 'run' / 'plot.png'} written\n"
    run("plot", tmp_path / "run", "-o", tmp_path / "p.svg")
    assert "exists" in refused("plot", tmp_path / "run", "-o", tmp_path / "p.svg")
    assert "no such file" in refused("plot", tmp_path / "none")
