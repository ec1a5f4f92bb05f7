"""Batches are made ahead in order, up to a limit, and errors are raised where results would be."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from fastmef.data.prefetch import AHEAD, prefetch


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order(workers):
    with closing(prefetch(lambda n: n * n, range(20), workers)) as made:
        assert list(made) == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_ahead_as_stated(workers):
    made, lock = [], threading.Lock()

    def make(number):
        with lock:
            made.append(number)
        return number

    with closing(prefetch(make, range(100), workers)) as results:
        for used in range(1, 5):
            next(results)
            assert len(made) <= used + AHEAD * workers
    assert max(made) < 4 + AHEAD * workers


def test_made_while_the_last_one_is_used():
    ready = threading.Event()

    def make(number):
        if number == 1:
            ready.set()
        return number

    with closing(prefetch(make, range(5), 1)) as results:
        next(results)
        assert ready.wait(30)


@pytest.mark.parametrize("workers", [0, 2])
def test_error_where_its_result_would_be(workers):
    def make(number):
        if number == 3:
            raise OSError("gone")
        return number

    results = prefetch(make, range(10), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_closing_ends_the_threads():
    results = prefetch(lambda n: n, range(100), 2)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("fastmef-data")]
