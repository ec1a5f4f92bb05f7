"""Whether the exact mode runs in bfloat16: only where that is faster and agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef.inference import precision
from fastmef.inference.fuser import Fuser
from fastmef.inference.models import ready_model
from fastmef.inference.precision import is_faster, precision_of, with_best_precision
from tests.support.photographs import as_stack, photographs, random_network


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without instructions for bfloat16, on which it is faster or not."""

    def make(has_bfloat16=True, faster=True, least_pixels=0):
        monkeypatch.setattr(precision, "has_bfloat16", lambda _device: has_bfloat16)
        monkeypatch.setattr(precision, "is_faster", lambda *_: faster)
        monkeypatch.setattr(precision, "_LEAST_PIXELS", least_pixels)

    return make


@pytest.fixture
def network():
    return ready_model(random_network(2), "cpu")[0]


BASE = as_stack(photographs(60, 80))


def chosen(network, base=BASE, pixels=10**7):
    with torch.no_grad():
        return precision_of(with_best_precision(network, base, pixels))


def test_faster_and_agreeing(machine, network):
    machine()
    assert chosen(network) == "bfloat16"
    assert precision_of(network) == "float32"  # the caller's network is not changed


@pytest.mark.parametrize("reason", [{"has_bfloat16": False}, {"faster": False}])
def test_not_where_it_does_not_pay(machine, network, reason):
    machine(**reason)
    assert chosen(network) == "float32"


def test_not_for_small_images(machine, network):
    machine(least_pixels=1000)
    assert [chosen(network, pixels=pixels) for pixels in (999, 1000)] == ["float32", "bfloat16"]


@pytest.mark.parametrize("limit", ["_MEAN_DIFFERENCE", "_LARGEST_DIFFERENCE"])
def test_not_where_the_base_differs(machine, network, monkeypatch, limit):
    machine()
    monkeypatch.setattr(precision, limit, 0.0)
    assert chosen(network) == "float32"


def test_other_precisions_stay(machine, network):
    machine()
    assert chosen(network.double()) == "float64"


@pytest.mark.parametrize(("seconds", "faster"), [((1.0, 0.9), False), ((1.0, 0.5), True)])
def test_the_best_round_of_each_decides(network, monkeypatch, seconds, faster):
    """A fake clock advances only in the networks, by far more in one of the rounds."""
    now, rounds = [0.0], []
    in_single, in_half = seconds

    def logits(self, exposures):
        rounds.append(1)
        slow = 10 if len(rounds) <= 2 else 1
        now[0] += slow * (in_half if precision_of(self) == "bfloat16" else in_single)
        return exposures

    monkeypatch.setattr(type(network), "logits", logits)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    assert is_faster(network, torch.device("cpu")) is faster
    before = len(rounds)
    assert is_faster(network, torch.device("cpu")) is faster
    assert len(rounds) == before  # the probe runs once in a process


def test_a_fusion_in_bfloat16_is_close_to_float32(machine):
    images, network = photographs(130, 90), random_network(2)
    machine(faster=False)
    fuser = Fuser(network, device="cpu")
    expected = fuser.fuse(images)
    assert fuser.precision == "float32"
    machine()
    fused = fuser.fuse(images)
    assert fuser.precision == "bfloat16"
    difference = np.abs(fused.astype(int) - expected)
    assert 0 < difference.max() <= 3
    assert difference.mean() < 0.5
