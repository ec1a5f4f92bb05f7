"""Manifests: the allowed content of a line, and refused lines."""

from __future__ import annotations

import json

import pytest

from fastmef.data.manifest import read_manifest
from fastmef.data.training_set import find_training_scenes
from fastmef.errors import InputError


@pytest.fixture
def manifest(tmp_path):
    def write(*entries):
        path = tmp_path / "scenes.jsonl"
        path.write_text("\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries))
        return path

    return write


def test_paths_names_and_order(manifest, tmp_path):
    path = manifest(
        {"images": ["b/2.jpg", "b/1.jpg"], "name": "desk"},
        "",
        {"images": ["a/dark.png", "/elsewhere/bright.png"]},
        {"images": ["sky.exr"]},
    )
    scenes, validation = read_manifest(path)
    assert [scene.name for scene in scenes] == ["desk", "a/dark", "sky.exr"]
    assert scenes[0].images == (tmp_path / "b/2.jpg", tmp_path / "b/1.jpg")
    assert [str(path) for path in scenes[1].images][1] == "/elsewhere/bright.png"
    assert scenes[2].is_radiance and validation is None


def test_its_split_is_used(manifest):
    entries = [{"images": [f"{n}/1.jpg", f"{n}/2.jpg"], "name": str(n)} for n in range(9)]
    found = find_training_scenes([manifest(*entries)])
    assert [scene.name for scene in found.validation] == ["0", "8"]
    entries[3]["split"], entries[4]["split"] = "validation", "train"
    found = find_training_scenes([manifest(*entries)])
    assert [scene.name for scene in found.validation] == ["3"] and len(found.training) == 8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ("[]", "line 2: no object"),
        ({"images": ["1.jpg", "2.jpg"], "exposures": 2}, "line 2: unknown key 'exposures'"),
        ({"name": "a"}, "line 2: images must be a list of paths"),
        ({"images": []}, "line 2: images must be a list of paths"),
        ({"images": [1, 2]}, "line 2: images must be a list of paths"),
        ({"images": ["1.jpg"]}, "two or more photographs, or one HDR file"),
        ({"images": ["1.hdr", "2.jpg"]}, "two or more photographs, or one HDR file"),
        ({"images": ["1.jpg", "2.jpg"], "name": ""}, "line 2: name must be a non-empty string"),
        ({"images": ["1.jpg", "2.jpg"], "split": "test"}, "line 2: split must be one of train"),
        ({"images": ["a.jpg", "b.jpg"], "name": "x"}, "line 2: a second scene is named x"),
    ],
)
def test_refused(manifest, line, message):
    path = manifest({"images": ["1.jpg", "2.jpg"], "name": "x"}, line)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_empty(manifest):
    with pytest.raises(InputError, match="lists no scene"):
        read_manifest(manifest(""))
