"""Files that are decoded in threads while the caller does something else."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from fastmef.data import ahead
from fastmef.data.ahead import decoding_ahead
from fastmef.data.decoded import DecodedSource
from fastmef.data.metadata import Metadata
from fastmef.errors import InputError

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
ROOM = 10 * PIXELS.nbytes


@pytest.fixture
def source():
    def make(decode):
        return DecodedSource(
            "a.jpg", PIXELS.shape, np.uint8, False, Metadata(), lambda: (decode(), None), 100
        )

    return make


def test_each_is_decoded_once(source):
    calls = []

    def decode():
        calls.append(1)
        return PIXELS

    sources = [source(decode), source(decode)]
    assert sources[0].resident_bytes == PIXELS.nbytes + 100
    with decoding_ahead(sources, ROOM):
        for one in sources:
            assert np.array_equal(one.rows(1, 3)[0], PIXELS[1:3])
            assert one.resident_bytes == 0  # nothing more than it has
    assert len(calls) == 2


def test_what_is_asked_for_early_is_waited_for(source):
    begun, go_on = threading.Event(), threading.Event()

    def decode():
        assert threading.current_thread() is not threading.main_thread()
        begun.set()
        assert go_on.wait(60)
        return PIXELS

    one = source(decode)
    with decoding_ahead([one], ROOM):
        assert begun.wait(60)
        threading.Timer(0.05, go_on.set).start()
        assert one.resident_bytes == 0
        assert np.array_equal(one.rows(0, 4)[0], PIXELS)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_one_core_is_left(source, monkeypatch, cores):
    monkeypatch.setattr(ahead, "available_cores", lambda: cores)
    lock, threads, most = threading.Lock(), [], []

    def decode():
        with lock:
            threads.append(1)
            most.append(len(threads))
        time.sleep(0.02)
        with lock:
            threads.pop()
        return PIXELS

    with decoding_ahead([source(decode) for _ in range(6)], 10 * ROOM):
        pass
    assert max(most) <= max(1, cores - 1)


def test_not_where_memory_is_short(source):
    calls = []
    sources = [source(lambda: calls.append(1) or PIXELS)] * 2
    with decoding_ahead(sources, 2 * (PIXELS.nbytes + 100) - 1):
        pass
    assert not calls


def test_damage_is_reported_where_rows_are_read(source):
    def decode():
        raise InputError("damaged")

    one = source(decode)
    with decoding_ahead([one], ROOM):
        pass
    with pytest.raises(InputError, match="damaged"):
        one.rows(0, 1)


def test_no_source_that_streams(source):
    one = source(lambda: pytest.fail("decoded"))
    one.streams = True
    with decoding_ahead([one], ROOM):
        pass
