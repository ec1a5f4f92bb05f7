"""The survey in the run folder is used for unchanged files, and never needed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from runs import small
from safetensors.torch import load_file

from fastmef.data import frames
from fastmef.data.frames import Frames
from fastmef.data.pairs import find_scenes
from fastmef.errors import InputError
from fastmef.training import record, train
from fastmef.training.record import Digest, digest
from fastmef.training.run_folder import CHECKPOINT, WEIGHTS
from fastmef.training.survey_file import SURVEY, load_survey, save_survey

TINY = small("pairs", width=1, batch_size=1, patch=32, scales=(1.0,))


class Stop(Exception):
    pass


def stop(record):
    if record["event"] == "step" and record["step"] == 3:
        raise Stop


@pytest.fixture
def looked_at(monkeypatch):
    """Record the names of files each time that they are decoded or hashed."""
    found = {"decoded": [], "hashed": []}
    decode, hash_file = frames._pixels, record.digest

    def decoding(path):
        found["decoded"].append("/".join(path.parts[-2:]))
        return decode(path)

    def hashing(path):
        found["hashed"].append("/".join(path.parts[-2:]))
        return hash_file(path)

    monkeypatch.setattr(frames, "_pixels", decoding)
    monkeypatch.setattr(record, "digest", hashing)
    return found


@pytest.fixture
def copied(pairs, tmp_path):
    return shutil.copytree(pairs, tmp_path / "scenes")


@pytest.fixture
def run(copied, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(copied, run, TINY, progress=stop, workers=0)
    return run


@pytest.fixture(scope="module")
def weights(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    train(pairs, run, TINY)
    return run / WEIGHTS


def same(one, other):
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_resumed_run_looks_at_no_file_again(copied, run, weights, looked_at):
    train(copied, run, resume=True, workers=0)
    assert looked_at["hashed"] == []
    assert len(looked_at["decoded"]) <= 2 * 2  # the pairs of the two remaining steps
    assert same(run / WEIGHTS, weights)


def test_touched_file_is_looked_at_again(copied, run, weights, looked_at):
    os.utime(copied / "b" / "over.png", (0, 0))
    train(copied, run, resume=True, workers=0)
    assert looked_at["hashed"] == ["b/over.png"]
    assert looked_at["decoded"].count("b/over.png") == 1
    assert same(run / WEIGHTS, weights)
    assert load_survey(run, Frames(0), [copied / "b" / "over.png"])


def test_changed_file_is_refused(copied, run):
    path = copied / "b" / "over.png"
    Image.fromarray(np.asarray(Image.open(path)) // 2).save(path)
    with pytest.raises(InputError, match="other photographs: b/over.png has changed"):
        train(copied, run, resume=True)


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "of another kind"])
def test_damaged_survey_is_ignored(copied, run, weights, looked_at, damage):
    path = run / SURVEY
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "changed":
        content[content.index(b"over.png") + 20] ^= 1
        path.write_bytes(content)
    else:
        shutil.copy(run / CHECKPOINT, path)
    train(copied, run, resume=True, workers=0)
    assert len(looked_at["hashed"]) == 8 and same(run / WEIGHTS, weights)


def test_what_is_known(copied, tmp_path, monkeypatch):
    scenes = find_scenes(copied)
    store, other = Frames(10**6), Frames(10**6)
    store.survey(scenes)
    digests = {path: digest(path) for scene in scenes for path in scene.images}
    changing, *rest = digests
    os.utime(changing, (1, 1))  # between its survey and the end
    save_survey(tmp_path, store, digests)
    monkeypatch.chdir(copied)  # paths as the user writes them
    relative = [path.relative_to(copied) for path in digests]
    known = load_survey(tmp_path, other, relative)
    assert known == {path.relative_to(copied): digests[path] for path in rest}
    assert all(isinstance(found, Digest) for found in known.values())
    for path in rest:
        assert other.seen[path.relative_to(copied)] == store.seen[path]
    assert other.cache.misses == 0
