"""Steps with accumulation, clipping, averaging, recomputation and timing."""

from __future__ import annotations

import json

import pytest
import torch
from runs import small
from safetensors.torch import load_file

from fastmef import FusionNet
from fastmef.errors import InputError
from fastmef.training import TrainConfig, set_learning_rate, train
from fastmef.training.distributed import World
from fastmef.training.objective import Objective
from fastmef.training.parallel import TrainedNetwork
from fastmef.training.recompute import recompute_activations
from fastmef.training.run_folder import CHECKPOINT, LOG, WEIGHTS
from fastmef.training.schedule import learning_rate
from fastmef.training.state import TrainState
from fastmef.training.throughput import Throughput
from fastmef.training.timing import PHASES, PhaseTimer

ALONE = World(0, 1, 1, torch.device("cpu"))


def records(run):
    return [json.loads(line) for line in (run / LOG).read_text().splitlines()]


def same(one, other):
    a, b = (load_file(run / WEIGHTS) for run in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_constant_schedule():
    config = TrainConfig(steps=100, warmup=10, learning_rate=1.0, schedule="constant")
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:2] == [0.1, 0.2] and set(rates[10:]) == {1.0}


def test_accumulated_batches_are_counted(pairs, tmp_path):
    train(pairs, tmp_path / "run", small(accumulate=3))
    steps = [record for record in records(tmp_path / "run") if record["event"] == "step"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    assert {record["patches"] for record in steps} == {6}


def test_accumulated_gradient_is_the_mean():
    config = TrainConfig.recipe("pairs", patch=48)
    batches = torch.rand(3, 2, 2, 3, 48, 48)
    means, parts = FusionNet(2, width=2), []
    for batch in batches:
        network = FusionNet(2, width=2)
        network.load_state_dict(means.state_dict())
        Objective(config)(network, batch, "float32").total.backward()
        parts.append([p.grad for p in network.parameters()])
        trained = TrainedNetwork(means, ALONE, PhaseTimer(ALONE.device))
        (Objective(config)(trained, batch, "float32").total / 3).backward()
    for parameter, *grads in zip(means.parameters(), *parts, strict=True):
        torch.testing.assert_close(parameter.grad, torch.stack(grads).mean(0), rtol=1e-4, atol=1e-7)


class TestAverage:
    def test_of_weights(self):
        config = TrainConfig(ema=0.9)
        state = TrainState.begin(FusionNet("any", width=2), config)
        expected = None
        for _ in range(4):
            for parameter in state.network.parameters():
                parameter.grad = torch.randn_like(parameter)
            set_learning_rate(state.optimizer, 0.1)
            state.optimizer.step()
            state.count(1)
            now = [p.detach().clone() for p in state.network.parameters()]
            if expected is None:
                expected = now
            expected = [0.9 * e + 0.1 * n for e, n in zip(expected, now, strict=True)]
        torch.testing.assert_close([p.detach() for p in state.model.parameters()], expected)
        assert state.model is not state.network and (state.step, state.drawn) == (4, 4)

    def test_is_the_model_and_resumes(self, pairs, tmp_path):
        class Stop(Exception):
            pass

        def stop(record):
            if record["event"] == "step" and record["step"] == 3:
                raise Stop

        train(pairs, tmp_path / "whole", small(ema=0.9))
        with pytest.raises(Stop):
            train(pairs, tmp_path / "run", small(ema=0.9), progress=stop)
        train(pairs, tmp_path / "run", resume=True)
        assert same(tmp_path / "run", tmp_path / "whole")
        train(pairs, tmp_path / "plain", small())
        assert not same(tmp_path / "plain", tmp_path / "whole")
        held = load_file(tmp_path / "whole" / CHECKPOINT)
        weights = load_file(tmp_path / "whole" / WEIGHTS)
        assert all(torch.equal(held[f"average.module.{name}"], weights[name]) for name in weights)

    def test_refused(self):
        with pytest.raises(InputError, match="ema must be less than 1"):
            TrainConfig(ema=1.0)


class TestRecompute:
    @pytest.mark.parametrize("recipe", ["default", "paper"])
    def test_result_is_the_same(self, pairs, tmp_path, recipe):
        options = dict(width=2, steps=3, patch=48, precision="float32", levels=1)
        for name in ("kept", "recomputed"):
            config = TrainConfig.recipe(recipe, **options, recompute=name == "recomputed")
            train(pairs, tmp_path / name, config)
        assert same(tmp_path / "kept", tmp_path / "recomputed")

    def test_less_is_kept(self):
        def kept(network):
            sizes = {}

            def pack(tensor):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                logits = network.logits(torch.rand(1, 3, 3, 64, 64))
            logits.sum().backward()
            return sum(sizes.values())

        network = FusionNet("any", width=4)
        before = kept(network)
        recompute_activations(network)
        assert kept(network) < 0.5 * before


class TestTime:
    def test_phases_add_up(self, pairs, tmp_path):
        train(pairs, tmp_path / "run", small())
        for record in records(tmp_path / "run"):
            if record["event"] == "step":
                assert set(record["times"]) == set(PHASES)
                assert sum(record["times"].values()) == pytest.approx(record["seconds"])
                assert all(record["times"][phase] > 0 for phase in PHASES)

    def test_forward_and_backward_belong_together(self, monkeypatch):
        """The clock advances by one with each reading, so a phase takes one tick per part."""
        clock = iter(range(100))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
        timer = PhaseTimer(ALONE.device)
        network = TrainedNetwork(FusionNet(2, width=2), ALONE, timer)
        timer.start("loss")
        network.logits(torch.rand(1, 2, 3, 16, 16)).sum().backward()
        timer.start("optimizer")
        assert timer.finish() == {"data": 0, "loss": 2, "network": 2, "optimizer": 1}

    def test_throughput(self):
        throughput = Throughput()
        assert throughput.patches_per_second == 0
        times = {"data": 0.1, "network": 0.2, "loss": 0.1, "optimizer": 0.1}
        for patches in (2, 6):
            throughput.add({"patches": patches, "seconds": 0.5, "times": times})
        assert throughput.patches_per_second == 8
        assert throughput.shares == pytest.approx({name: 2 * t for name, t in times.items()})


def test_no_validation(pairs, tmp_path):
    train(pairs, tmp_path / "run", small(validation="0"))
    assert {record["event"] for record in records(tmp_path / "run")} == {"step"}


def test_workers_and_memory_change_nothing(pairs, stacks, tmp_path):
    train([pairs, stacks], tmp_path / "a", small(), workers=0)
    train([pairs, stacks], tmp_path / "b", small(), workers=3, memory="20kB")
    assert same(tmp_path / "a", tmp_path / "b")


def test_fixed_number_of_frames_from_everything(pairs, stacks, hdr, tmp_path):
    options = {"exposures": "fixed", "frames": 2, "hdr_stops": (3.0, 5.0), "hdr_bits": 10}
    train([pairs, stacks, hdr], tmp_path / "run", small(**options))
    assert FusionNet.from_pretrained(tmp_path / "run" / WEIGHTS).config["exposures"] == 2
    assert {r["exposures"] for r in records(tmp_path / "run") if r["event"] == "step"} == {2}


def test_longer_scenes_for_validation_are_thinned(stacks, tmp_path):
    options = {"exposures": "fixed", "frames": 3, "validation": "1/2"}
    train(stacks, tmp_path / "run", small(**options))
    assert [r for r in records(tmp_path / "run") if r["event"] == "validation"]


def test_weights_for_each_folder(pairs, stacks, tmp_path):
    with pytest.raises(InputError, match="a weight for each of the 2 folders, got 1"):
        train([pairs, stacks], tmp_path / "run", small(folder_weights=(1.0,)))
    train([pairs, stacks], tmp_path / "run", small(folder_weights=(0.0, 1.0)))
    steps = [r for r in records(tmp_path / "run") if r["event"] == "step"]
    assert all(record["exposures"] > 2 for record in steps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 3}, "frames must be at least 2"),
        ({"frames": 1, "exposures": "fixed"}, "frames must be at least 2"),
        ({"counts": (1, 3)}, "counts must be from 2 to 64"),
        ({"counts": (3.5,)}, "counts must be finite numbers"),
        ({"counts": ()}, "counts must be finite numbers"),
        ({"folder_weights": (0.0,)}, "one of folder_weights"),
        ({"hdr_stops": (5.0, 2.0)}, "hdr_stops must not decrease"),
        ({"hdr_stops": (1.0, 2.0, 3.0)}, "a least and a greatest"),
        ({"hdr_gammas": (1.0, 2.0, 3.0)}, "a least and a greatest"),
        ({"hdr_curves": ("film",)}, "hdr_curves must be of srgb, linear, s, got 'film'"),
        ({"hdr_clipped": 0.5}, "less than 0.5"),
        ({"hdr_bits": 17}, "hdr_bits must be from 1 to 16"),
        ({"schedule": "steps"}, "cosine or constant"),
        ({"accumulate": 0}, "accumulate must be from 1"),
    ],
)
def test_refused(options, words):
    with pytest.raises(InputError, match=words):
        TrainConfig(**options)
