"""Copies to and from an emulated GPU, whose streams run in any order that is allowed."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from fastmef.inference.arrays import ArraySink, ArraySource
from fastmef.inference.controls import Control
from fastmef.inference.frames import Frames
from fastmef.inference.models import ready_model
from fastmef.inference.plan import Plan
from fastmef.inference.stream import fuse_streamed
from fastmef.inference.transfer import Delivery, Upload
from tests.support.photographs import photographs, random_network


class Event:
    happened = False


class EmulatedStreams:
    """Queues of work that run in a random order, which only events restrict.

    The host waits for nothing but :meth:`finish`; memory is filled with rubbish when it is made.
    """

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._queues = {name: [] for name in ("compute", "upload", "download")}

    def pinned(self, count, dtype):
        return torch.full((count,), 77, dtype=dtype)

    memory = pinned

    def copy(self, target, source, stream):
        self._queues[stream].append((None, lambda: target.copy_(source)))

    def launch(self, kernel):
        self._queues["compute"].append((None, kernel))

    def record(self, stream):
        event = Event()
        self._queues[stream].append((None, lambda: setattr(event, "happened", True)))
        return event

    def wait(self, stream, event):
        self._queues[stream].append((event, lambda: None))

    def finish(self, event):
        while not event.happened:
            self._run_one()

    def some(self):
        """Run a random part of the work that may run."""
        for _ in range(self._random.randrange(6)):
            self._run_one()

    def everything(self):
        while any(self._queues.values()):
            self._run_one()

    def _run_one(self):
        ready = [
            queue
            for queue in self._queues.values()
            if queue and (queue[0][0] is None or queue[0][0].happened)
        ]
        if ready:
            self._random.choice(ready).pop(0)[1]()
        assert ready or not any(self._queues.values()), "the streams wait for one another"


HEIGHTS = (2, 4, 4, 3, 5, 1, 1, 5, 5)
STRIPS = [np.full((rows, 3, 1), index, np.uint8) for index, rows in enumerate(HEIGHTS)]


class Sink:
    def __init__(self):
        self.rows, self.alpha = [], []

    def write_rows(self, pixels, alpha):
        self.rows.append(pixels.copy())
        self.alpha.append(alpha)


def filling(strip):
    return lambda host: host.copy_(torch.from_numpy(strip))


def run_strips(streams, windows_per_strip=1):
    """Add one to every strip with kernels that the emulated GPU runs later."""
    sink, upload = Sink(), Upload(streams)
    delivery = Delivery(streams, sink)
    for index, strip in enumerate(STRIPS):
        for other in reversed(range(windows_per_strip)):
            window = upload(strip.shape, torch.uint8, filling(strip + 100 * other))
        streams.some()
        target = delivery.target(strip.shape, torch.uint8)
        streams.launch(lambda target=target, window=window: target.copy_(window + 1))
        streams.some()
        delivery.deliver(index)
        streams.some()
    delivery.finish()
    return sink


@pytest.mark.parametrize("windows_per_strip", [1, 2, 3])
def test_right_whatever_the_order(windows_per_strip):
    for seed in range(300):
        sink = run_strips(EmulatedStreams(seed), windows_per_strip)
        assert len(sink.rows) == len(STRIPS)
        for found, strip in zip(sink.rows, STRIPS, strict=True):
            assert np.array_equal(found, strip + 1)
        assert sink.alpha == list(range(len(STRIPS)))


def test_the_strip_before_is_written_while_the_next_one_is_computed():
    """The host enqueues a strip before it waits for the previous one."""
    streams, sink = EmulatedStreams(0), Sink()
    delivery = Delivery(streams, sink)
    for index in range(3):
        delivery.target((2, 2, 1), torch.uint8)
        delivery.deliver(None)
        assert len(sink.rows) == index
    delivery.finish()
    delivery.finish()
    assert len(sink.rows) == 3


class Careless(EmulatedStreams):
    """Streams that skip the wait of one line of the transfer code."""

    def __init__(self, seed, left_out):
        super().__init__(seed)
        self._left_out = left_out

    def wait(self, stream, event):
        if self._left_out != (sys._getframe(1).f_code.co_name, stream):
            super().wait(stream, event)

    def finish(self, event):
        if self._left_out != (sys._getframe(1).f_code.co_name, "host"):
            super().finish(event)


@pytest.mark.parametrize(
    "left_out",
    [
        ("__call__", "host"),
        ("__call__", "upload"),
        ("__call__", "compute"),
        ("deliver", "download"),
        ("finish", "host"),
    ],
)
def test_every_wait_is_needed(left_out):
    """Without any single wait, some order of the streams gives another result."""
    right = [
        all(np.array_equal(a, b + 1) for a, b in zip(sink.rows, STRIPS, strict=True))
        for sink in (run_strips(Careless(seed, left_out), 3) for seed in range(300))
    ]
    assert not all(right)


class Deferred(EmulatedStreams):
    """Run kernels at once, as on the CPU, and copies when the kernels or the host wait for them."""

    def record(self, stream):
        event = super().record(stream)
        if stream == "compute":
            self.finish(event)
        return event

    def wait(self, stream, event):
        if stream == "compute":
            self.finish(event)
        else:
            super().wait(stream, event)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_fusion_through_copies_equals_one_without(masked, depth):
    images = photographs(301, 400, 3)
    masks = [np.arange(301 * 400).reshape(301, 400) % (k + 2) > 0 for k in range(3)]
    network, _ = ready_model(random_network("any"), "cpu")
    results = []
    for seed in (None, 0, 1):
        sources = [ArraySource("image", image) for image in images]
        frames = Frames(sources, masks if masked else None, dtype=depth)
        if seed is not None:
            frames.use_streams(Deferred(seed))
        sink = ArraySink(301, 400, 3, np.dtype(depth))
        plan = Plan(kept=1, strip=32, memory=0)
        given = Control(masks=masks if masked else None)
        with torch.no_grad():
            fuse_streamed(network, frames, plan, given, sink, lambda *_: None)
        results.append(sink.pixels)
    assert results[0].any()
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
