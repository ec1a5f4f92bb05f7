"""The benchmark of a training step compares the same network, loss and batches."""

from __future__ import annotations

import pytest
import torch

from bench import tables, training_step
from bench.baselines.plain_training import PlainNet
from fastmef.reference.color import rgb_to_gray


@pytest.fixture(autouse=True)
def small(monkeypatch):
    whole = training_step.batches
    monkeypatch.setattr(
        training_step, "batches", lambda count, size: whole(count, size)[..., :66, :50]
    )


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_the_network_is_the_same(padding):
    network = training_step.new_network(3, padding).double()
    plain = PlainNet(3, padding).double()
    plain.take_over(network)
    exposures = torch.rand(2, 2, 3, 50, 43, dtype=torch.float64)
    torch.testing.assert_close(plain(rgb_to_gray(exposures)), network.logits(exposures))


def test_losses_agree_step_by_step():
    found = {v: training_step.run(v, 2, 2, 2) for v in training_step.VARIANTS}
    plain = found["plain"]["losses"]
    assert len(plain) == training_step.WARM_UP + 2 and len(set(plain)) == len(plain)
    exact = training_step.run(training_step.EXACT, 2, 2, 2)["losses"]
    training_step.check(2, found, exact)
    for variant in training_step.FIRST:
        assert 0 < found[variant]["disagreement"] < 3e-2
        phases = found[variant]["times"]
        if variant.startswith("fastmef"):
            assert min(phases["network"], phases["loss"], phases["optimizer"]) > 0


@pytest.mark.parametrize("losses", [[0.5001, 0.4], [0.5, 0.4 * 1.1]], ids=["first", "later"])
def test_another_result_is_refused(losses):
    found = {variant: {"losses": [0.5, 0.4 * 1.01]} for variant in training_step.VARIANTS}
    training_step.check(64, found, [0.5, 0.4])
    found["fastmef float32"] = {"losses": losses}
    with pytest.raises(SystemExit, match="64 fastmef float32: the first loss is"):
        training_step.check(64, found, [0.5, 0.4])


def test_table():
    times = {"network": 0.04, "loss": 0.01, "optimizer": 0.0}
    variants = {
        "plain": {"seconds": 0.2, "times": {}},
        "fastmef float32": {"seconds": 0.05, "times": times, "disagreement": 1e-4},
    }
    case = {"width": 16, "batch": 4, "variants": variants}
    machine = {"cpu": "a processor", "threads": 2, "load": 0.1}
    results = {"machine": machine, "torch": "2.13", "steps": 12, "cases": [case]}
    first, *_, plain, ours = tables.training(results).splitlines()
    assert "a processor, 2 threads, torch 2.13; the fastest of 12 steps" in first
    assert first.endswith("Load average before it: 0.1.")
    assert plain == "| width 16, batch 4 | plain | 200 | 1.00 |  |  |"
    assert ours.endswith("| fastmef float32 | 50 | 4.00 | 80%, 20%, 0% | 1.0e-04 |")
