"""fastmef demo: the bundled photographs, one picture, one table."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fastmef.cli import demo
from fastmef.data.images import write_image
from fastmef.metrics import score_name


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Two small scenes in place of the bundled ones, to be quick."""
    rng = np.random.default_rng(0)
    for scene, count in (("pair", 2), ("bracket", 3)):
        light = rng.uniform(0.2, 1, (40, 60, 3))
        (tmp_path / "samples" / scene).mkdir(parents=True)
        for k in range(count):
            stops = 1.5 * k - 2 if scene == "pair" else 1 - 1.5 * k  # the bracket: brightest first
            pixels = np.uint8(255 * np.clip(light * 2.0**stops, 0, 1))
            write_image(tmp_path / "samples" / scene / f"{k}.png", pixels)
    monkeypatch.setattr(demo, "SAMPLES", tmp_path / "samples")


def test_picture_and_table(run, model, samples, tmp_path):
    out = tmp_path / "demo.png"
    text = run("demo", "-o", out, "--model", model, "--device", "cpu").stdout
    lines = text.splitlines()
    assert score_name("ma2015", 3) in lines[0]
    assert [line.split()[:2] for line in lines[1:10]] == [
        ["bracket", "0.png"], ["bracket", "1.png"], ["bracket", "2.png"],
        ["bracket", "plain"], ["bracket", "fused"],
        ["pair", "0.png"], ["pair", "1.png"], ["pair", "plain"], ["pair", "fused"],
    ]  # fmt: skip
    scored = [float(line.split()[3 if "mean" in line else 2]) for line in lines[1:10]]
    assert all(0 < score <= 1 for score in scored)
    assert lines[5].endswith(" s")
    assert str(out) in lines[-1]
    picture = Image.open(out)
    assert picture.width > 4 * 60
    assert picture.height > 2 * 40


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_weights_picture(run, model, samples, tmp_path, monkeypatch, halvings):
    """Weights are black where only the dark exposure counts, white where the bright one does."""
    from fastmef.inference import fuse as module

    def split(images, *_arguments, **_options):
        height, width = 40 // 2**halvings, 60 // 2**halvings
        weights = np.zeros((len(images), height, width), np.float32)
        brightness = [image.mean() for image in images]
        weights[np.argmin(brightness), : height // 2] = 1
        weights[np.argmax(brightness), height // 2 :] = 1
        return images[0], weights

    drawn = []
    monkeypatch.setattr(module, "fuse_with_weights", split)
    monkeypatch.setattr(
        "fastmef.data.sheet.contact_sheet", lambda rows: drawn.extend(rows) or rows[0][0][1]
    )
    run("demo", "-o", tmp_path / "demo.png", "--model", model, "--device", "cpu")
    for row in drawn:
        assert [label.split(":")[0] for label, _ in row][1:3] == ["over-exposed", "weights"]
        picture, blurred = row[2][1], 2**halvings
        assert picture.shape == (40, 60)
        assert (picture[: 20 - blurred] == 0).all()
        assert (picture[20 + blurred :] == 255).all()
        assert row[0][1].mean() < row[1][1].mean()


def test_existing_output(refused, model, tmp_path):
    (tmp_path / "demo.png").write_bytes(b"old")
    assert "exists already" in refused("demo", "-o", tmp_path / "demo.png", "--model", model)


def test_bundled_scenes():
    from fastmef.data.pairs import find_scenes

    assert find_scenes(demo.SAMPLES)
