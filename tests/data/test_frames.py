"""Decoded photographs: kept within a limit, decoded again, and never another file's."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fastmef.data.cache import Cache
from fastmef.data.frames import Frames
from fastmef.data.pairs import find_scenes
from fastmef.errors import InputError


@pytest.fixture
def scenes(tmp_path):
    """Two scenes of three exposures of 8x8, whose names do not follow their brightness."""
    for scene in "ab":
        (tmp_path / scene).mkdir()
        for name, level in (("1", 90), ("2", 10), ("3", 200)):
            Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / scene / f"{name}.png")
    return find_scenes(tmp_path)


class TestCache:
    def test_limit(self):
        cache = Cache(100)
        for key in range(5):
            cache.get(key, lambda: np.zeros(40, np.uint8))
            assert cache.bytes <= 100
        assert (cache.hits, cache.misses) == (0, 5)

    def test_those_not_used_for_longest_leave(self):
        cache = Cache(100)
        loaded = []

        def use(key):
            cache.get(key, lambda: loaded.append(key) or np.zeros(40, np.uint8))

        for key in "abaca":
            use(key)
        assert loaded == ["a", "b", "c"]
        use("b")
        assert loaded == ["a", "b", "c", "b"]

    def test_larger_than_the_limit(self):
        cache = Cache(100)
        assert cache.get("a", lambda: np.zeros(101, np.uint8)).size == 101
        assert cache.bytes == 0

    def test_threads(self):
        cache = Cache(200)

        def use(n):
            value = n % 7
            return int(cache.get(value, lambda: np.full(40, value, np.uint8))[0]) == value

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(2000)))
        assert cache.bytes <= 200


def test_survey(scenes):
    store = Frames(10**6)
    surveys = store.survey(scenes)
    assert [[path.name for path in s.paths] for s in surveys] == [["2.png", "1.png", "3.png"]] * 2
    assert (surveys[0].height, surveys[0].width) == (8, 8)
    assert int(store.read(surveys[0].paths[2])[0, 0, 0]) == 200
    assert store.cache.misses == 6


def test_memory_is_bounded(scenes):
    size = 8 * 8 * 3
    store = Frames(2 * size)
    for survey in store.survey(scenes):
        for path, level in zip(survey.paths, (10, 90, 200), strict=True):
            assert (store.read(path) == level).all()
            assert store.cache.bytes <= 2 * size


def test_what_others_saw_is_believed(scenes):
    one, other = Frames(10**6), Frames(10**6)
    one.look_at(scenes[:1])
    other.look_at(scenes[1:])
    other.take_over(one.seen)
    before = other.cache.misses
    assert len(other.survey(scenes)) == 2 and other.cache.misses == before
    assert (other.read(scenes[0].images[0]) == 90).all()


class TestFaults:
    def test_vanished(self, scenes):
        store = Frames(0)
        store.survey(scenes)
        scenes[0].images[1].unlink()
        with pytest.raises(InputError, match=r"a/2\.png: no such file"):
            store.read(scenes[0].images[1])

    def test_changed(self, scenes):
        store = Frames(0)
        store.survey(scenes)
        Image.new("RGB", (8, 8)).save(scenes[0].images[1])
        os.utime(scenes[0].images[1], (0, 0))
        with pytest.raises(InputError, match=r"a/2\.png: has changed since the start of the run"):
            store.read(scenes[0].images[1])

    def test_named(self, scenes):
        store = Frames(10**6)
        scenes[0].images[1].write_bytes(b"damaged")
        Image.new("RGB", (9, 8)).save(scenes[1].images[2])
        with pytest.raises(InputError, match=r"a/2\.png: not an image"):
            store.survey(scenes)
        assert "2.png: not an image" in str(store.fault(scenes[0]))
        assert "must have one size" in str(store.fault(scenes[1]))
        scenes[0].images[1].unlink()
        assert Frames(0).fault(scenes[0]) is not None
