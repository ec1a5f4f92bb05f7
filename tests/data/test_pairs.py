"""Folders of scenes: what is found, in which order, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastmef.data.pairs import Scene, find_scenes, split_scenes
from fastmef.errors import InputError


@pytest.fixture
def folder(tmp_path):
    def build(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return build


def found(root):
    return {scene.name: [path.name for path in scene.images] for scene in find_scenes(root)}


class TestFindScenes:
    def test_under_and_over(self, folder):
        root = folder("b/over.jpg", "b/under.png", "a/OVER.TIF", "a/Under.webp", "a/fused.jpg")
        assert list(found(root).items()) == [
            ("a", ["Under.webp", "OVER.TIF"]),
            ("b", ["under.png", "over.jpg"]),
        ]

    def test_others_by_name(self, folder):
        assert found(folder("s/02.jpg", "s/01.jpg", "s/03.jpeg", "s/times.txt")) == {
            "s": ["01.jpg", "02.jpg", "03.jpeg"]
        }

    def test_paths_are_complete(self, folder):
        root = folder("s/1.jpg", "s/2.jpg")
        assert find_scenes(str(root))[0].images == (root / "s/1.jpg", root / "s/2.jpg")

    def test_passed_over(self, folder):
        root = folder("s/1.jpg", "s/2.jpg", "s/._1.jpg", ".git/3.jpg", "notes/a.txt", "README.jpg")
        assert found(root) == {"s": ["1.jpg", "2.jpg"]}

    def test_labels_of_sice(self, folder):
        """Numbered scenes of 7 or 9 frames, and a folder of fused images beside them."""
        names = [f"{scene}/{k}.JPG" for scene, most in ((1, 7), (2, 9)) for k in range(1, most + 1)]
        root = folder(*names, "Label/1.JPG", "Label/2.JPG")
        assert {name: len(images) for name, images in found(root).items()} == {"1": 7, "2": 9}

    def test_single_image(self, folder):
        with pytest.raises(InputError, match=r"tower: a single image, 1\.jpg.*two or more"):
            find_scenes(folder("tower/1.jpg"))

    def test_two_named_under(self, folder):
        with pytest.raises(InputError, match=r"tower: .* named under, got under\.jpg, under\.png"):
            find_scenes(folder("tower/under.jpg", "tower/under.png", "tower/over.jpg"))

    @pytest.mark.parametrize("names", [(), ("notes.txt",), ("1.jpg", "2.jpg"), ("s/a.txt",)])
    def test_no_scene(self, folder, names):
        with pytest.raises(
            InputError, match="no scene in this folder; expected one folder a scene"
        ):
            find_scenes(folder(*names))

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="nowhere: no such folder"):
            find_scenes(tmp_path / "nowhere")

    def test_a_file(self, folder):
        with pytest.raises(InputError, match="a file, not a folder"):
            find_scenes(folder("a.jpg") / "a.jpg")


@pytest.mark.parametrize(("share", "count"), [(0, 0), (1, 40), ("1/3", 14), ("0.1", 4)])
def test_shares(share, count):
    scenes = [Scene(f"{i:02}", ()) for i in range(40)]
    training, validation = split_scenes(scenes, Fraction(share))
    assert len(validation) == count and sorted(training + validation, key=str) == scenes
    gaps = np.diff([int(scene.name) for scene in validation])
    assert not gaps.size or gaps.max() - gaps.min() <= 1


def test_split():
    scenes = [Scene(f"{i:02}", ()) for i in range(19)]
    training, validation = split_scenes(scenes)
    assert [scene.name for scene in validation] == ["00", "08", "16"]
    assert [int(scene.name) for scene in training] == [i for i in range(19) if i % 8]
