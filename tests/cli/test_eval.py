"""fastmef eval: one table of a folder of scenes, the same in CSV and JSON."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

import fastmef
from fastmef.data.images import read_image, write_image
from fastmef.inference.simple import mertens, plain_mean
from fastmef.metrics import DECIMALS, SCORES


@pytest.fixture
def scenes(tmp_path):
    """Nine scenes of 24×30 pixels: 0 and 8 are the validation split."""
    root = tmp_path / "scenes"
    for n in range(9):
        light = np.random.default_rng(n).uniform(0.2, 1, (24, 30, 3))
        (root / f"s{n}").mkdir(parents=True)
        for name, gain in (("under", 0.4), ("over", 1.6)):
            pixels = np.uint8(255 * np.clip(light * gain, 0, 1))
            write_image(root / f"s{n}" / f"{name}.png", pixels)
    return root


@pytest.fixture
def evaluate(model, tmp_path):
    return lambda folder, *more: ("eval", folder, "--model", model, "--device", "cpu", *more)


METHODS = ["darkest frame", "brightest frame", "plain mean", "OpenCV Mertens", "fastmef"]


def test_table_csv_and_json_agree(run, evaluate, scenes, model, tmp_path):
    pytest.importorskip("cv2", reason="Mertens needs OpenCV")
    text = run(
        *evaluate(scenes, "--split", "validation"),
        *("--csv", tmp_path / "s.csv", "--json", tmp_path / "s.json"),
    ).stdout
    with (tmp_path / "s.csv").open() as file:
        records = list(csv.DictReader(file))
    report = json.loads((tmp_path / "s.json").read_text())
    assert [record["method"] for record in records] == METHODS * 2
    assert {record["scene"] for record in records} == {"s0", "s8"}
    assert report["scenes"] == ["s0", "s8"]
    assert list(report["means"]) == METHODS
    columns = list(report["means"]["fastmef"])
    for method, line in zip(METHODS, text.splitlines()[1:6], strict=True):
        assert line.startswith(method)
        for name, shown in zip(columns, line.removeprefix(method).split(), strict=True):
            values = [float(r[name]) for r in records if r["method"] == method]
            assert report["means"][method][name] == pytest.approx(np.mean(values), rel=1e-12)
            digits = DECIMALS.get(name, 4)
            assert shown == f"{np.mean(values):.{digits}f}"
    assert {"saturation", "brightness", "near_white", "near_black"} <= set(columns)
    for name in columns:
        assert f"  {name}: {SCORES[name]}" in text
    assert "means over 2 scenes" in text


def test_scores_are_the_metrics(run, evaluate, scenes, model, tmp_path):
    from fastmef.inference.simple import as_tensor
    from fastmef.metrics import score_images

    run(*evaluate(scenes, "--limit", 1, "--json", tmp_path / "s.json"))
    records = json.loads((tmp_path / "s.json").read_text())["records"]
    pair = [read_image(scenes / "s0" / f"{name}.png").pixels for name in ("under", "over")]
    candidates = {
        "darkest frame": pair[0],
        "brightest frame": pair[1],
        "plain mean": plain_mean(pair),
        "fastmef": fastmef.fuse(pair, model, device="cpu"),
    }
    for method, image in candidates.items():
        scores = score_images(as_tensor(image), as_tensor(*pair)[None])
        (record,) = (r for r in records if r["method"] == method)
        assert {name: record[name] for name in scores} == pytest.approx(dict(scores))


def test_options_reach_the_fusion(run, evaluate, scenes, model, tmp_path):
    from fastmef.inference.simple import as_tensor
    from fastmef.metrics import score_images

    given = {"color": 0.9, "contrast": 1.5, "brightness": -0.5, "refine": 3}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    run(*evaluate(scenes, "--limit", 1, "--json", tmp_path / "s.json", *options))
    report = json.loads((tmp_path / "s.json").read_text())
    assert {name: report[name] for name in given} == given
    pair = [read_image(scenes / "s0" / f"{name}.png").pixels for name in ("under", "over")]
    fused = fastmef.fuse(pair, model, device="cpu", **given)
    expected = score_images(as_tensor(fused), as_tensor(*pair)[None])
    assert {name: report["means"]["fastmef"][name] for name in expected} == pytest.approx(expected)
    default = fastmef.fuse(pair, model, device="cpu")
    other = score_images(as_tensor(default), as_tensor(*pair)[None])
    assert other["brightness"] > expected["brightness"] + 5


@pytest.mark.parametrize(("split", "count"), [("train", 7), ("all", 9), ("validation", 2)])
def test_split(run, evaluate, scenes, split, count):
    assert f"means over {count} scenes" in run(*evaluate(scenes, "--split", split)).stdout


def test_limit(run, evaluate, scenes):
    assert "means over 3 scenes" in run(*evaluate(scenes, "--limit", 3)).stdout


def test_without_opencv(run, evaluate, scenes, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    text = run(*evaluate(scenes, "--limit", 1)).stdout
    assert "Mertens" not in text
    assert "\nfastmef" in text


def test_plain_mean():
    images = [np.full((1, 1, 3), value, np.uint8) for value in (10, 13)]
    assert plain_mean(images)[0, 0, 0] == 12  # 11.5 rounds up


def test_mertens_is_between_clipped_and_rgb():
    pytest.importorskip("cv2", reason="Mertens needs OpenCV")
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = np.arange(16) * 10
    fused = mertens([red, red])
    assert np.abs(fused.astype(int) - red).max() <= 2


class TestRefused:
    def test_missing_folder(self, refused, evaluate, tmp_path):
        assert "none: no such folder" in refused(*evaluate(tmp_path / "none"))

    def test_empty_folder(self, refused, evaluate, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "empty: no scene in this folder" in refused(*evaluate(tmp_path / "empty"))

    def test_one_image(self, refused, evaluate, scenes):
        (scenes / "s0" / "over.png").unlink()
        assert "s0: a single image" in refused(*evaluate(scenes))

    def test_different_sizes(self, run, evaluate, scenes):
        write_image(scenes / "s0" / "over.png", np.zeros((9, 9, 3), np.uint8), force=True)
        assert "under.png is 30×24" in run(*evaluate(scenes), status=2).stderr

    def test_empty_split(self, refused, evaluate, scenes):
        for n in range(1, 9):
            (scenes / f"s{n}").rename(scenes / f".s{n}")
        assert "no scene is in the train split" in refused(*evaluate(scenes, "--split", "train"))

    @pytest.mark.parametrize("option", ["--csv", "--json"])
    def test_existing_report(self, refused, evaluate, scenes, tmp_path, option):
        (tmp_path / "s.txt").write_text("old")
        (scenes / "s0" / "over.png").unlink()  # would be refused too, but later
        line = refused(*evaluate(scenes, option, tmp_path / "s.txt"))
        assert "s.txt exists already" in line
        assert (tmp_path / "s.txt").read_text() == "old"
