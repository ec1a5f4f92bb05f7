"""fastmef fuse: the options for photographers."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from PIL import Image

import fastmef
from fastmef.data.images import read_image
from fastmef.inference.fuse import fuse_with_weights


@pytest.fixture
def fuse(model, tmp_path):
    """Return the arguments of a fusion into fused.png."""
    output = tmp_path / "fused.png"
    return lambda images, *more: (
        "fuse", *images, "-o", output, "--model", model, "--device", "cpu", "--force", *more
    )  # fmt: skip


@pytest.fixture
def fused(run, fuse, tmp_path):
    def call(images, *more):
        run(*fuse(images, *more))
        return np.array(Image.open(tmp_path / "fused.png"))

    return call


@pytest.fixture
def large(tmp_path):
    """Three photographs that are larger than their base."""
    rng = np.random.default_rng(0)
    light = rng.uniform(0.2, 1, (301, 500, 3))
    paths = []
    for name, gain in (("a.png", 0.3), ("b.jpg", 0.8), ("c.tif", 1.8)):
        pixels = np.uint8(255 * np.clip(gain * light, 0, 1))
        Image.fromarray(pixels).save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


@pytest.mark.parametrize("command", ["fuse", "eval"])
@pytest.mark.parametrize("name", ["model", "color", "contrast", "brightness", "refine"])
def test_defaults_are_those_of_fuse(commands, command, name):
    (option,) = (option for option in commands[command].params if option.name == name)
    assert option.default == inspect.signature(fastmef.fuse).parameters[name].default


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (("--color", 0.9), {"color": 0.9}),
        (("--contrast", 1.7), {"contrast": 1.7}),
        (("--brightness", -0.5), {"brightness": -0.5}),
        (("--bias", 0, "--bias", 0.7, "--bias", -1.5), {"bias": [0, 0.7, -1.5]}),
        (("--refine", 2), {"refine": 2}),
    ],
)
def test_same_as_in_python(fused, large, model, arguments, same):
    expected = fastmef.fuse(large, model, device="cpu", **same)
    picture = fused(large, *arguments)
    assert np.array_equal(picture, expected)
    assert not np.array_equal(picture, fastmef.fuse(large, model, device="cpu"))


class TestMask:
    def test_same_as_in_python(self, fused, large, model, tmp_path):
        mask = np.full((301, 500), 255, np.uint8)
        mask[100:200, 100:300] = 0
        Image.fromarray(mask).save(tmp_path / "mask.png")
        picture = fused(large, "--mask", "-", "--mask", tmp_path / "mask.png", "--mask", "-")
        masks = [None, mask > 0, None]
        assert np.array_equal(picture, fastmef.fuse(large, model, masks=masks, device="cpu"))
        assert not np.array_equal(picture, fused(large))

    def test_jpeg(self, fused, photographs, tmp_path):
        mask = np.zeros((30, 40), np.uint8)
        mask[:, 13:] = 255
        pictures = []
        for name in ("mask.png", "mask.jpg"):
            Image.fromarray(mask).save(tmp_path / name, quality=90)
            pictures.append(fused(photographs, "--mask", tmp_path / name, "--mask", "-"))
        assert np.array_equal(*pictures)
        assert (np.asarray(Image.open(tmp_path / "mask.jpg"))[:, :13] > 0).any()

    def test_number(self, refused, fuse, photographs):
        line = refused(*fuse(photographs, "--mask", "-"))
        assert "--mask must be given once for each of 2 photographs, got 1" in line

    def test_size(self, refused, fuse, photographs, tmp_path):
        Image.new("L", (41, 30)).save(tmp_path / "mask.png")
        line = refused(*fuse(photographs, "--mask", "-", "--mask", tmp_path / "mask.png"))
        assert "mask.png: 41×30 pixels; needed: 40×30" in line

    def test_missing(self, refused, fuse, photographs):
        assert "gone.png: no such file" in refused(
            *fuse(photographs, "--mask", "gone.png", "--mask", "-")
        )


class TestWeights:
    def test_come_back(self, fused, large, tmp_path):
        picture = fused(large, "--weights-out", tmp_path / "maps")
        names = {path.name for path in (tmp_path / "maps").iterdir()}
        assert names == {"a.weights.png", "b.weights.png", "c.weights.png"}
        again = fused(large, "--weights-in", tmp_path / "maps")
        assert np.abs(again.astype(int) - picture).max() <= 1
        second = fused(large, "--weights-in", tmp_path / "maps", "--refine", 7)
        assert np.array_equal(second, again)  # given weights are not refined

    def test_files(self, fused, large, model, tmp_path):
        fused(large, "--weights-out", tmp_path / "maps")
        _, weights = fuse_with_weights(large, model, device="cpu")
        for name, plane in zip("abc", weights, strict=True):
            image = Image.open(tmp_path / "maps" / f"{name}.weights.png")
            assert image.mode == "I;16" and image.size == (327, 196)
            assert np.abs(np.asarray(image) / 65535 - plane).max() <= 0.5 / 65535 + 1e-6

    def test_edited_with_8_bits(self, fused, photographs, model, tmp_path):
        (tmp_path / "maps").mkdir()
        half = np.zeros((30, 40), np.uint8)
        half[:, :20] = 255
        Image.fromarray(half).save(tmp_path / "maps" / "dark.weights.png")
        Image.fromarray(255 - half).save(tmp_path / "maps" / "bright.weights.png")
        picture = fused(photographs, "--weights-in", tmp_path / "maps", "--color", 0)
        left, right = (read_image(path).pixels for path in photographs)
        middle = (left > 4) & (left < 239) & (right > 4) & (right < 239)
        assert (picture[:, :20] == left[:, :20])[middle[:, :20]].all()
        assert (picture[:, 20:] == right[:, 20:])[middle[:, 20:]].all()

    def test_for_two(self, run, photographs, model_for_two, tmp_path):
        """The weights of a model for a fixed number have the photographs' size."""
        run("fuse", *photographs, "-o", tmp_path / "f.png", "--model", model_for_two,
            "--device", "cpu", "--weights-out", tmp_path)  # fmt: skip
        assert Image.open(tmp_path / "dark.weights.png").size == (40, 30)

    def test_same_name(self, refused, fuse, photographs, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "dark.png").write_bytes(photographs[0].read_bytes())
        for option in ("--weights-in", "--weights-out"):
            line = refused(*fuse([*photographs, tmp_path / "other" / "dark.png"], option, tmp_path))
            assert "would share the weights" in line and "dark.weights.png" in line

    def test_existing(self, refused, model, photographs, tmp_path):
        (tmp_path / "dark.weights.png").write_bytes(b"precious")
        line = refused("fuse", "gone.jpg", tmp_path / "dark.jpg", "-o", tmp_path / "fused.png",
                       "--model", model, "--weights-out", tmp_path)  # fmt: skip
        assert "dark.weights.png exists already; --force" in line
        assert (tmp_path / "dark.weights.png").read_bytes() == b"precious"

    @pytest.mark.parametrize("place", ["none/maps", "dark.png"])
    def test_no_folder(self, refused, fuse, photographs, tmp_path, place):
        line = refused(*fuse(photographs, "--weights-out", tmp_path / place))
        assert "no such folder" in line or "it is not a folder" in line
        assert not (tmp_path / "fused.png").exists()

    def test_missing(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, "--weights-in", tmp_path / "maps"))
        assert "dark.weights.png: no such file; needed: " in line

    def test_size(self, refused, fuse, large, tmp_path):
        for name in "abc":
            Image.new("L", (500, 301), 100).save(tmp_path / f"{name}.weights.png")
        line = refused(*fuse(large, "--weights-in", tmp_path))
        assert "a.weights.png: 500×301 pixels; needed: 327×196" in line

    def test_all_black(self, refused, fuse, photographs, tmp_path):
        for name in ("dark", "bright"):
            Image.new("L", (40, 30)).save(tmp_path / f"{name}.weights.png")
        line = refused(*fuse(photographs, "--weights-in", tmp_path))
        assert "above 0 at every pixel, got a pixel of zeros" in line


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_biases(refused, fuse, photographs, count):
    line = refused(*fuse(photographs, *["--bias", 0.5] * count))
    assert f"--bias must be given once for each of 2 photographs, got {count}" in line


@pytest.mark.parametrize(
    "arguments",
    [("--contrast", 5), ("--brightness", -2.5), ("--bias", 30), ("--contrast", "much")],
)
def test_out_of_range(run, fuse, photographs, arguments):
    result = run(*fuse(photographs, *arguments), status=2)
    assert f"Invalid value for '{arguments[0]}'" in result.stderr


@pytest.mark.parametrize("option", ["--contrast", "--brightness", "--color"])
def test_not_a_number(refused, fuse, photographs, option):
    line = refused(*fuse(photographs, option, "nan"))
    assert f"{option[2:]} must be from" in line and "got nan" in line


def test_a_model_for_two_has_no_controls(refused, photographs, model_for_two, tmp_path):
    line = refused("fuse", *photographs, "-o", tmp_path / "f.png", "--model", model_for_two,
                   "--contrast", 2)  # fmt: skip
    assert "contrast needs a model for any number of exposures" in line
