"""Training: NaN, damaged checkpoints, other photographs, two runs at once, kills, full disks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image
from processes import finish, start
from runs import run_training, small
from safetensors.torch import load_file

from fastmef.errors import DivergenceError, InputError, OutputError
from fastmef.training import TrainConfig, train
from fastmef.training.checkpoint import load_checkpoint
from fastmef.training.run_folder import CHECKPOINT, LOG, WEIGHTS

TINY = small("pairs", width=1, steps=6, batch_size=1, patch=32, scales=(1.0,))


def changed(**options):
    return TrainConfig.from_dict(TINY.to_dict() | options)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Three scenes, the first for validation."""
    folder = tmp_path_factory.mktemp("scenes")
    random = np.random.default_rng(0)
    for name in "abc":
        light = random.normal(size=(6, 5, 3)).repeat(8, 0).repeat(8, 1)
        light = np.exp(1.5 * light + 0.3 * random.normal(size=(48, 40, 3)))
        (folder / name).mkdir()
        for label, gain in (("under", 0.1), ("over", 1.0)):
            pixels = (255 * np.clip(light * gain, 0, 1) ** (1 / 2.2)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{label}.png")
    return folder


@pytest.fixture(scope="module")
def finished(scenes, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "whole"
    train(scenes, run, TINY)
    return run


@pytest.fixture
def copied(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "scenes")


class Stop(Exception):
    pass


def interrupted(scenes, run, step=3):
    def progress(record):
        if record.get("step") == step and record["event"] == "step":
            raise Stop

    with pytest.raises(Stop):
        train(scenes, run, TINY, progress=progress)
    return run


def records(run):
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "times")} for line in lines]


def same_weights(one, other):
    a, b = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("brightness", float("inf")),
        ("weight_decay", float("nan")),
        ("scales", (0.5, float("nan"))),
        ("scales", (float("inf"),)),
        ("scales", (-0.5, 1.0)),
        ("scales", ()),
        ("scales", "0.5"),
        ("seed", -1),
        ("seed", 2**70),
        ("width", 100_000),
        ("width", 2.0),
        ("width", True),
        ("steps", "many"),
        ("batch_size", 10**9),
        ("patch", 10**9),
        ("warmup", -1),
        ("luminance", 1),
        ("skip_connections", "yes"),
        ("upsampling", "cubic"),
        ("in_features", ["rgb"]),
        ("initial", 3),
    ],
)
def test_options_are_checked_when_given(name, value):
    with pytest.raises(InputError, match=f"^{name} must be") as caught:
        TrainConfig(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"gamma": "nonsense"}, {"initial": "nonsense"}])
def test_other_options_are_checked_before_photographs_are_read(copied, tmp_path, options):
    (copied / "b" / "under.png").write_bytes(b"damaged")
    with pytest.raises(InputError, match="nonsense"):
        train(copied, tmp_path / "run", changed(**options))


class TestDivergence:
    def test_loss(self, scenes, tmp_path):
        run, options = tmp_path / "run", {"learning_rate": 1e30, "warmup": 0, "steps": 50}
        with pytest.raises(DivergenceError) as caught:
            train(scenes, run, changed(**options, checkpoint_every=50, validate_every=50))
        message = str(caught.value)
        assert re.search(r"^step \d+: the loss is (nan|inf)", message) and "\n" not in message
        assert re.search(r"(b|c)/under\.png, .*over\.png at row \d+, column \d+", message)
        assert not (run / WEIGHTS).exists() and not (run / CHECKPOINT).exists()

    def test_named_patches_are_those_of_the_step(self, scenes):
        from fastmef.data.pairs import find_scenes
        from fastmef.data.patches import PatchSampler

        sampler = PatchSampler(find_scenes(scenes), 32, 3, 5)
        for patch, (scene, top, left) in zip(sampler.batch(7), sampler.positions(7), strict=True):
            stack = np.stack([np.asarray(Image.open(path)) for path in scene.images])
            cut = stack[:, top : top + 32, left : left + 32]
            assert np.isclose(cut.mean(axis=(1, 2)) / 255, patch.mean(dim=(2, 3))).all()

    def test_weights_without_a_loss(self, scenes, tmp_path, monkeypatch):
        """No loss is computed after the last step."""
        step = torch.optim.AdamW.step

        def spoil(self, *arguments):
            step(self, *arguments)
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))

        monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
        with pytest.raises(DivergenceError, match="^step 1: training has diverged"):
            train(scenes, tmp_path / "run", changed(steps=1, validate_every=1))
        assert not (tmp_path / "run" / WEIGHTS).exists()
        assert not (tmp_path / "run" / CHECKPOINT).exists()


class TestCheckpoint:
    def test_every_changed_byte_is_refused(self, finished, tmp_path, changed_bytes):
        path = tmp_path / CHECKPOINT
        shutil.copy(finished / CHECKPOINT, path)
        for _ in changed_bytes(path, "checkpoint"):
            with pytest.raises(InputError) as caught:
                load_checkpoint(path)
            assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)

    def test_truncated(self, finished, tmp_path, effort, rng, count):
        whole = (finished / CHECKPOINT).read_bytes()
        lengths = rng.sample(range(len(whole)), effort(50, 2000))
        for length in lengths:
            (tmp_path / CHECKPOINT).write_bytes(whole[:length])
            with pytest.raises(InputError):
                load_checkpoint(tmp_path / CHECKPOINT)
        count(f"{len(lengths)} truncated checkpoints")

    def test_model_in_its_place(self, scenes, finished, tmp_path):
        shutil.copy(finished / WEIGHTS, tmp_path / CHECKPOINT)
        with pytest.raises(InputError, match="holds no checkpoint"):
            train(scenes, tmp_path, resume=True)


class TestOtherPhotographs:
    @pytest.fixture
    def run(self, copied, tmp_path):
        return interrupted(copied, tmp_path / "run")

    def refused(self, copied, run, words):
        before = (run / CHECKPOINT).read_bytes()
        with pytest.raises(InputError, match=f"other photographs: {words}"):
            train(copied, run, resume=True)
        assert (run / CHECKPOINT).read_bytes() == before

    def test_changed_file_of_the_same_size(self, copied, run):
        path = copied / "b" / "under.png"
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
        self.refused(copied, run, "b/under.png has changed")

    def test_validation_counts(self, copied, run):
        (copied / "a" / "over.png").write_bytes((copied / "b" / "over.png").read_bytes())
        self.refused(copied, run, "a/over.png has changed")

    def test_missing_scene(self, copied, run):
        shutil.rmtree(copied / "c")
        self.refused(copied, run, "c/over.png is missing")

    def test_another_number_of_exposures(self, copied, run):
        for scene in copied.iterdir():
            (scene / "under.png").rename(scene / "1.png")
            (scene / "over.png").rename(scene / "3.png")
            shutil.copy(scene / "1.png", scene / "2.png")
        self.refused(copied, run, "a/1.png is new")

    def test_copies_are_the_same(self, copied, run, tmp_path, finished):
        moved = copied.rename(tmp_path / "moved")
        for path in moved.rglob("*.png"):
            os.utime(path, (0, 0))
        train(moved, run, resume=True)
        assert same_weights(run, finished)


def test_validation_images_are_looked_at_first(copied, tmp_path):
    path = copied / "a" / "over.png"
    content = path.read_bytes()
    for damage, words in (
        (content[:-100], "damaged"),
        (content[:60] + b"x" + content[61:], "damaged"),
    ):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=f"over.png: {words}"):
            train(copied, tmp_path / "run", changed(steps=10**6))
    Image.new("RGB", (50, 50)).save(path)
    with pytest.raises(InputError, match="must have one size"):
        train(copied, tmp_path / "run", changed(steps=10**6))


class TestLog:
    def test_validation_between_checkpoint_and_kill(self, scenes, finished, tmp_path, monkeypatch):
        from fastmef.training import loop

        def stop(*_arguments):
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(loop, "validate", stop)
            with pytest.raises(Stop):
                train(scenes, tmp_path / "run", TINY)
        train(scenes, tmp_path / "run", resume=True)
        assert records(tmp_path / "run") == records(finished)

    def test_line_cut_off_by_a_kill(self, scenes, finished, tmp_path):
        run = interrupted(scenes, tmp_path / "run")
        with (run / LOG).open("a") as file:
            file.write('{"event": "step", "st')
        train(scenes, run, resume=True)
        assert records(run) == records(finished)

    @pytest.mark.parametrize(
        "line", [b"\xff\xfe", b"[]", b"null", b'{"step": "2"}', b"{}", b"{", b"[" * 100_000]
    )
    def test_damaged_line(self, scenes, tmp_path, line):
        run = interrupted(scenes, tmp_path / "run")
        lines = (run / LOG).read_bytes().splitlines(keepends=True)
        damaged = b"".join([lines[0], line + b"\n", *lines[1:]])
        (run / LOG).write_bytes(damaged)
        with pytest.raises(InputError, match=r"log\.jsonl: line 2 is damaged") as caught:
            train(scenes, run, resume=True)
        assert "\n" not in str(caught.value)
        assert (run / LOG).read_bytes() == damaged

    def test_full_disk(self, scenes, tmp_path, finished):
        """The run continues from any step when there is space again."""
        resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (finished / CHECKPOINT).stat().st_size
        run = tmp_path / "run"

        def fill(record):
            if record["event"] == "step" and record["step"] == 3:
                limit = (run / LOG).stat().st_size + 20
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))

        try:
            with pytest.raises(OutputError, match=r"log\.jsonl: (file too large|no space)"):
                train(scenes, run, TINY, progress=fill)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (run / CHECKPOINT).stat().st_size <= size
        train(scenes, run, resume=True)
        assert same_weights(run, finished)
        assert records(run) == records(finished)


class TestOneRunAFolder:
    def test_second_run(self, scenes, tmp_path):
        run, refusals = tmp_path / "run", []

        def try_another(record):
            if record.get("step") == 3:
                for resume in (False, True):
                    with pytest.raises(OutputError, match="another training is running"):
                        train(scenes, run, None if resume else TINY, resume=resume)
                    refusals.append(resume)

        train(scenes, run, TINY, progress=try_another)
        assert refusals == [False, True] and (run / WEIGHTS).exists()

    def test_finished_model_is_kept(self, scenes, finished, tmp_path):
        (tmp_path / "run").mkdir()
        shutil.copy(finished / WEIGHTS, tmp_path / "run")
        with pytest.raises(OutputError, match="holds a run already"):
            train(scenes, tmp_path / "run", TINY)


class TestFilesInTheMiddle:
    """Photographs that memory does not hold are read again, and may be gone by then."""

    def stopped(self, copied, run, harm):
        def progress(record):
            if record.get("step") == 3 and record["event"] == "step":
                for name in "bc":
                    harm(copied / name / "over.png")

        with pytest.raises(InputError) as caught:
            train(copied, run, TINY, progress=progress, memory=1, workers=0)
        message = str(caught.value)
        assert "\n" not in message and load_checkpoint(run / CHECKPOINT).step == 2
        assert not (run / WEIGHTS).exists()
        return message

    def resumed(self, scenes, copied, run, finished):
        for name in "bc":
            shutil.copy(scenes / name / "over.png", copied / name / "over.png")
        train(copied, run, resume=True)
        assert same_weights(run, finished)
        assert records(run) == records(finished)

    def test_vanished(self, scenes, copied, tmp_path, finished):
        message = self.stopped(copied, tmp_path / "run", lambda path: path.unlink())
        assert re.search(r"/(b|c)/over\.png: no such file", message)
        self.resumed(scenes, copied, tmp_path / "run", finished)

    def test_corrupt(self, scenes, copied, tmp_path, finished):
        def harm(path):
            path.write_bytes(path.read_bytes()[:-100])

        message = self.stopped(copied, tmp_path / "run", harm)
        assert re.search(r"/(b|c)/over\.png: damaged", message)
        self.resumed(scenes, copied, tmp_path / "run", finished)

    def test_replaced(self, scenes, copied, tmp_path, finished):
        def harm(path):
            Image.new("RGB", (40, 48)).save(path)

        message = self.stopped(copied, tmp_path / "run", harm)
        assert re.search(r"/(b|c)/over\.png: has changed since the start of the run", message)
        self.resumed(scenes, copied, tmp_path / "run", finished)


def test_full_disk_at_a_checkpoint(scenes, tmp_path, finished):
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = tmp_path / "run"
    size = (finished / CHECKPOINT).stat().st_size

    def fill(record):
        if record["event"] == "validation":
            resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, before[1]))

    try:
        with pytest.raises(OutputError, match="checkpoint.safetensors"):
            train(scenes, run, TINY, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(run / CHECKPOINT).step == 2
    train(scenes, run, resume=True)
    assert same_weights(run, finished)
    assert not list(run.glob(".fastmef-*"))


def test_loss_of_an_accumulated_batch(scenes, tmp_path, monkeypatch):
    """The message names the patches of the batch, not all patches of the step."""
    from fastmef.data.pairs import find_scenes
    from fastmef.data.patches import PatchSampler
    from fastmef.training.objective import Objective

    plain, calls = Objective.__call__, []

    def spoil(self, *arguments):
        calls.append(None)
        result = plain(self, *arguments)
        return result._replace(total=result.total * float("nan")) if len(calls) == 6 else result

    monkeypatch.setattr(Objective, "__call__", spoil)
    with pytest.raises(DivergenceError) as caught:
        train(scenes, tmp_path / "run", changed(accumulate=2))
    sampler = PatchSampler(find_scenes(scenes)[1:], TINY.patch, TINY.batch_size, TINY.seed)
    ((scene, top, left),) = sampler.positions(5)
    message = str(caught.value)
    assert message.startswith("step 3: the loss is nan")
    assert message.endswith(f"{scene.name}/over.png at row {top}, column {left}")
    assert load_checkpoint(tmp_path / "run" / CHECKPOINT).step == 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("size", [1, 2])
def test_killed_and_resumed(scenes, tmp_path, effort, rng, count, size):
    """A run that is killed at random moments ends bit for bit as an uninterrupted one.

    The locks of the killed processes are no obstacle. Where there are two, one of them is killed:
    the other ends by itself, or by torchrun.
    """
    config = changed(steps=effort(20, 3000), checkpoint_every=3, validate_every=7)
    threads = torch.get_num_threads()
    whole = start(size, run_training, scenes, tmp_path / "whole", config.to_dict(), threads)
    assert finish(whole) == [0] * size
    run, kills, wanted = tmp_path / "run", 0, effort(4 - size, 500)
    while not (run / WEIGHTS).exists():
        resume = (run / CHECKPOINT).exists()
        options = None if resume else config.to_dict()
        before = (run / CHECKPOINT).stat().st_mtime_ns if resume else None
        started, killed = start(size, run_training, scenes, run, options, threads), False
        while kills < wanted and all(process.is_alive() for process in started):
            if (run / CHECKPOINT).exists() and (run / CHECKPOINT).stat().st_mtime_ns != before:
                # It has got on by one checkpoint, so the run ends some time.
                time.sleep(rng.uniform(0, 0.05))
                if all(process.is_alive() for process in started):
                    rng.choice(started).kill()
                    kills, killed = kills + 1, True
                    time.sleep(0.2)
                    for process in started:
                        process.kill()
                break
            time.sleep(0.001)
        codes = finish(started)
        assert -signal.SIGKILL in codes if killed else codes == [0] * size
    # The records first: they name the step where runs part.
    assert records(run) == records(tmp_path / "whole")
    assert same_weights(run, tmp_path / "whole")
    assert not list(run.glob(".fastmef-*"))
    count(f"{kills} kills of a training in {size} processes with resume")
