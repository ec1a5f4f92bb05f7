"""Training: it learns, it resumes bit for bit, and it survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from runs import small
from safetensors.torch import load_file

from fastmef import FusionNet
from fastmef.errors import InputError, OutputError
from fastmef.training import TrainConfig, train
from fastmef.training.config import TERMS
from fastmef.training.lock import LOCK
from fastmef.training.objective import Objective
from fastmef.training.precision import choose_precision
from fastmef.training.run_folder import CHECKPOINT, LOG, PICTURES, WEIGHTS
from fastmef.training.schedule import learning_rate
from fastmef.training.survey_file import SURVEY

SMALL = small("pairs", steps=6, batch_size=2, patch=32, scales=(0.6, 0.4))
MIXED = small(steps=6)
EXCLUDED = ("short", "c")


def records(run):
    return [json.loads(line) for line in (run / LOG).read_text().splitlines()]


def same(one, other):
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    pass


def stop_after(step):
    def progress(record):
        if record["event"] == "step" and record["step"] == step:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "whole"
    train(pairs, run, SMALL)
    return run


def test_writes_weights_log_and_scores(finished):
    net = FusionNet.from_pretrained(finished / WEIGHTS)
    assert net.config["width"] == 2
    steps = [r["step"] for r in records(finished) if r["event"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]
    validations = [r for r in records(finished) if r["event"] == "validation"]
    assert [r["step"] for r in validations] == [4, 6]
    assert all(0 < value <= 1 for name, value in validations[0].items() if "ma2015" in name)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_interrupted_run_resumes_bit_for_bit(pairs, finished, tmp_path, step):
    run = tmp_path / "run"
    with pytest.raises(Stop):
        train(pairs, run, SMALL, progress=stop_after(step))
    if step == 1:  # before the first checkpoint
        with pytest.raises(InputError, match="no checkpoint"):
            train(pairs, run, resume=True)
        return
    (run / ".fastmef-0123456789abcdef.tmp").write_bytes(b"left by a kill in the middle")
    train(pairs, run, resume=True)
    expected = {CHECKPOINT, LOG, PICTURES, WEIGHTS, LOCK, SURVEY}
    assert {path.name for path in run.iterdir()} == expected
    assert same(run / WEIGHTS, finished / WEIGHTS)
    assert same(run / CHECKPOINT, finished / CHECKPOINT)
    logged = [(r["step"], r["loss"]) for r in records(run) if r["event"] == "step"]
    assert logged == [(r["step"], r["loss"]) for r in records(finished) if r["event"] == "step"]


def test_terms_are_logged(finished):
    for record in records(finished):
        if record["event"] == "step":
            terms = {name: getattr(SMALL, name) * value for name, value in record["terms"].items()}
            assert set(terms) == {"structure", "mef_ssim", "brightness", "color"}
            assert record["loss"] == pytest.approx(sum(terms.values()), rel=1e-5)
            assert record["exposures"] == 2


@pytest.fixture(scope="module")
def folders(pairs, stacks, hdr):
    return [pairs, stacks, hdr]


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    run = tmp_path_factory.mktemp("mixed") / "whole"
    train(folders, run, MIXED, exclude=EXCLUDED)
    return run


class TestMixedData:
    """Pairs, longer stacks, HDR files and exclusion in one run, for a network that takes any K."""

    def test_network_and_kinds_of_batches(self, whole):
        net = FusionNet.from_pretrained(whole / WEIGHTS)
        assert net.config["exposures"] == "any" and net.config["width"] == 2
        counts = {r["exposures"] for r in records(whole) if r["event"] == "step"}
        assert 2 in counts and len(counts) > 1

    def test_resumes_bit_for_bit(self, folders, whole, tmp_path):
        run = tmp_path / "run"
        with pytest.raises(Stop):
            train(folders, run, MIXED, progress=stop_after(3), exclude=EXCLUDED)
        train(folders, run, resume=True, exclude=EXCLUDED)
        assert same(run / WEIGHTS, whole / WEIGHTS)
        assert same(run / CHECKPOINT, whole / CHECKPOINT)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"exclude": ("short",)}, "c/over.png is new"),
            ({"exclude": ("short", "c", "b")}, "b/over.png is missing"),
            ({"folders": slice(2)}, "3:room.hdr/room.hdr is missing"),
        ],
    )
    def test_resumes_with_the_same_data_alone(self, folders, tmp_path, change, words):
        with pytest.raises(Stop):
            train(folders, tmp_path, MIXED, progress=stop_after(3), exclude=EXCLUDED)
        folders = folders[change.get("folders", slice(None))]
        with pytest.raises(InputError, match=f"other photographs: {words}"):
            train(folders, tmp_path, resume=True, exclude=change.get("exclude", EXCLUDED))

    def test_a_fixed_number_ignores_hdr_files(self, pairs, hdr, tmp_path):
        config = TrainConfig.from_dict(SMALL.to_dict() | {"steps": 1})
        train([pairs, hdr], tmp_path / "both", config)
        train(pairs, tmp_path / "pairs", config)
        assert same(tmp_path / "both" / WEIGHTS, tmp_path / "pairs" / WEIGHTS)

    def test_learns(self, folders, tmp_path):
        def last_losses(rate):
            options = {"steps": 60, "width": 4, "validate_every": 60, "learning_rate": rate}
            run = tmp_path / str(rate)
            train(folders, run, TrainConfig.from_dict(MIXED.to_dict() | options))
            return sum(r["loss"] for r in records(run)[-21:] if r["event"] == "step")

        assert last_losses(5e-3) < 0.95 * last_losses(0.0)


def test_clipping_bounds_the_gradient(pairs, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def measure(self, *arguments):
        grads = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack(grads).norm()))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", measure)
    for clip in (0.0, 1e-4):
        options = {"steps": 1, "clip": clip}
        train(pairs, tmp_path / str(clip), TrainConfig.from_dict(SMALL.to_dict() | options))
    assert norms[0] > 1e-3 and norms[1] == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_run_resumes_bit_for_bit(pairs, finished, tmp_path):
    run = tmp_path / "run"
    script = (
        "import sys; from fastmef.training import TrainConfig, train; "
        "train(sys.argv[1], sys.argv[2], TrainConfig.from_dict(eval(sys.argv[3])))"
    )
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(pairs), str(run), repr(SMALL.to_dict())],
        env=os.environ | threads,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while not (run / CHECKPOINT).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    train(pairs, run, resume=True)
    assert same(run / WEIGHTS, finished / WEIGHTS)


def test_learns(pairs, tmp_path):
    def last_losses(rate):
        config = SMALL.to_dict() | {"steps": 60, "width": 4, "warmup": 5, "validate_every": 60}
        run = tmp_path / str(rate)
        train(pairs, run, TrainConfig.from_dict(config | {"learning_rate": rate}))
        return sum(r["loss"] for r in records(run)[-21:] if r["event"] == "step")

    # Batches differ by more than a short run learns, so the same ones are compared.
    assert last_losses(5e-3) < 0.95 * last_losses(0.0)


def test_starts_from_weights(pairs, finished, tmp_path):
    options = SMALL.to_dict() | {"initial": str(finished / WEIGHTS), "steps": 1}
    train(pairs, tmp_path / "run", TrainConfig.from_dict(options | {"learning_rate": 0.0}))
    tuned, start = (load_file(run / WEIGHTS) for run in (tmp_path / "run", finished))
    assert all(torch.equal(tuned[k], start[k]) for k in tuned if k.endswith("0.weight"))
    with pytest.raises(InputError, match="holds a network"):
        train(pairs, tmp_path / "other", TrainConfig.from_dict(options | {"width": 3}))


def test_schedule():
    config = TrainConfig(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert 0 < rates[-1] < 1e-3


def test_other_options_on_resume(pairs, finished):
    with pytest.raises(InputError, match="other options"):
        train(pairs, finished, TrainConfig(width=3), resume=True)


def test_existing_run_is_kept(pairs, finished):
    before = (finished / CHECKPOINT).read_bytes()
    with pytest.raises(OutputError, match="holds a run already"):
        train(pairs, finished, SMALL)
    assert (finished / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "garbage", "weights"])
def test_corrupt_checkpoint(pairs, finished, tmp_path, damage):
    content = (finished / CHECKPOINT).read_bytes()
    if damage == "truncated":
        content = content[:-50]
    elif damage == "garbage":
        content = b"x" * 1000
    else:
        content = (finished / WEIGHTS).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match="checkpoint.safetensors") as caught:
        train(pairs, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path.name)):
        train(tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"patch": 8}, "patch"),
        ({"precision": "float16"}, "float16"),
        ({"brightness": -1.0}, "brightness"),
        ({"learning": 1.0}, "learning"),
        ({"exposures": 3}, "exposures"),
        ({"exposures": "some"}, "any or fixed"),
        ({"blend": "pyramid"}, "multiscale or sum"),
        ({"blend": "sum"}, "blend must be"),
        ({"levels": 9}, "levels must be from 0 to 8"),
        ({"patch": 16, "levels": 5}, "levels must be at most 4 for patches of 16 pixels"),
        ({"clip": -1.0}, "clip"),
        (dict.fromkeys(TERMS, 0.0), "must be above 0"),
    ],
)
def test_bad_configuration(values, message):
    with pytest.raises(InputError, match=message):
        TrainConfig.from_dict(values)


def test_recipes():
    assert TrainConfig.recipe("default") == TrainConfig()
    paper = TrainConfig.recipe("paper")
    assert (paper.exposures, paper.blend, paper.in_features) == ("fixed", "sum", "gray")
    assert not paper.skip_connections and paper.scales == (1.0,)
    assert {t: getattr(paper, t) for t in TERMS if getattr(paper, t)} == {"structure": 1.0}
    assert (paper.patch, paper.batch_size, paper.width) == (250, 4, 16)
    # The weights "default" of version 0.1 were trained with these options.
    pairs = TrainConfig.recipe("pairs")
    terms = {t: getattr(pairs, t) for t in TERMS if getattr(pairs, t)}
    assert terms == {"structure": 1.0, "mef_ssim": 0.5, "brightness": 0.1, "color": 0.1}
    assert (pairs.in_features, pairs.skip_connections, pairs.blend) == ("rgb", True, "sum")
    assert (pairs.patch, pairs.batch_size, pairs.warmup, pairs.clip) == (250, 4, 100, 0.0)
    assert TrainConfig.recipe("paper", width=3, mefnet=0.1).width == 3
    for options, words in (({"name": "none"}, "default, paper, pairs"), ({"steps": 0}, "steps")):
        with pytest.raises(InputError, match=words):
            TrainConfig.recipe(**({"name": "paper"} | options))
    with pytest.raises(InputError, match="unknown training options: stride"):
        TrainConfig.recipe("paper", stride=2)


def test_probe_names_a_precision():
    net = FusionNet(width=2)
    batch = torch.rand(1, 2, 3, 32, 32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    objective = Objective(TrainConfig.recipe("pairs"))
    precision = choose_precision(net, objective, batch)
    assert precision in ("float32", "bfloat16")
    # The probe trains a copy of the network.
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
