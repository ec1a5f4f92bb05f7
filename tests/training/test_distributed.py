"""Several processes: the gradients of one with all their batches, one writer, resumed by others."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref

import pytest
import torch
import torch.distributed as dist
from gradients import exposures, new_network, write_gradients
from processes import finish, start
from runs import run_training, small, stop_after
from safetensors.torch import load_file

from fastmef.training import TrainConfig
from fastmef.training.distributed import join_world
from fastmef.training.objective import Objective
from fastmef.training.run_folder import CHECKPOINT, LOG, WEIGHTS

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this PyTorch has no gloo",
)

SMALL = small(steps=6, validate_every=3, ema=0.5)


def records(run, event="step"):
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def options(config, **changes):
    return config.to_dict() | changes


def train_in(size, folders, run, given):
    assert finish(start(size, run_training, folders, run, given, 1)) == [0] * size


def difference(one, other):
    a, b = (load_file(run / WEIGHTS) for run in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_what_has_the_group_is_dropped_before_it(monkeypatch):
    """A wrapped network that outlives its process group can hang in its destructor."""

    class Cycle:
        def __init__(self):
            self.itself = self

    dropped = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: dropped.append(held() is None))
    gc.disable()
    try:
        with join_world() as world:
            assert world.size == 2
            held = weakref.ref(Cycle())
    finally:
        gc.enable()
    assert dropped == [True]


class TestGradients:
    @pytest.mark.parametrize("recipe", ["default", "paper"])
    def test_shared_statistics_are_those_of_the_whole_batch(self, tmp_path, recipe):
        config = TrainConfig.recipe(recipe, levels=1)
        assert finish(start(2, write_gradients, config, True, tmp_path)) == [0, 0]
        network = new_network(config)
        Objective(config)(network, exposures(), "float32").total.backward()
        self.check(network, tmp_path, buffers=True)

    def test_own_statistics_are_those_of_accumulated_batches(self, tmp_path):
        config = TrainConfig(levels=1)
        assert finish(start(2, write_gradients, config, False, tmp_path)) == [0, 0]
        network = new_network(config)
        for half in exposures().chunk(2):
            (Objective(config)(network, half, "float32").total / 2).backward()
        self.check(network, tmp_path)

    def check(self, network, folder, buffers=False):
        one, other = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
        assert all(torch.equal(one[name], other[name]) for name in one)
        for name, parameter in network.named_parameters():
            assert parameter.grad.abs().max() > 0
            torch.testing.assert_close(one[name], parameter.grad, rtol=1e-6, atol=1e-12)
        for name, value in network.named_buffers():
            if buffers:
                torch.testing.assert_close(one[f"{name} after"], value, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def folders(pairs, stacks):
    return [pairs, stacks]


@pytest.fixture(scope="module")
def twice(folders, tmp_path_factory):
    run = tmp_path_factory.mktemp("two") / "run"
    train_in(2, folders, run, options(SMALL))
    return run


def test_two_processes_train_as_one_that_accumulates(folders, twice, tmp_path):
    train_in(1, folders, tmp_path / "one", options(SMALL, accumulate=2))
    one, two = (records(run) for run in (tmp_path / "one", twice))
    assert len(two) == SMALL.steps
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-3)
    one, two = (records(run, "validation")[-1] for run in (tmp_path / "one", twice))
    assert one.pop("event") == two.pop("event")
    assert one == pytest.approx(two, rel=1e-2, abs=0.05)


def test_one_writer(twice):
    assert [record["step"] for record in records(twice)] == list(range(1, SMALL.steps + 1))
    assert len(records(twice, "validation")) == 2
    assert not list(twice.glob(".fastmef-*"))


def test_interrupted_runs_resume_bit_for_bit(folders, twice, tmp_path):
    stopped = options(SMALL)
    finish(start(2, stop_after, 3, folders, tmp_path, stopped, 1))
    assert (tmp_path / CHECKPOINT).exists() and not (tmp_path / WEIGHTS).exists()
    train_in(2, folders, tmp_path, None)
    assert difference(tmp_path, twice) == 0


@pytest.mark.parametrize("size", [1, 3])
def test_resumed_by_another_number_of_processes(folders, tmp_path, size):
    finish(start(2, stop_after, 3, folders, tmp_path, options(SMALL), 1))
    train_in(size, folders, tmp_path, None)
    steps = records(tmp_path)
    assert [record["step"] for record in steps] == list(range(1, SMALL.steps + 1))


def test_synchronized_and_recomputed(folders, tmp_path):
    train_in(2, folders, tmp_path / "a", options(SMALL, sync_batchnorm=True, steps=3))
    given = options(SMALL, sync_batchnorm=True, steps=3, recompute=True)
    train_in(2, folders, tmp_path / "b", given)
    assert difference(tmp_path / "a", tmp_path / "b") == 0


def test_torchrun(folders, tmp_path):
    """The torchrun command of the documentation trains."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "fastmef.training", *map(str, folders)]
    command += ["-o", str(tmp_path / "run"), "--steps", "2", "--width", "2", "--patch", "32"]
    command += ["--precision", "float32"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("model.safetensors written") == 1
    assert (tmp_path / "run" / WEIGHTS).exists()
