"""The command line: one clear line and a status for everything that the system refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fastmef import FusionNet
from fastmef.cli import main

LONG = "n" * 5000
posix = pytest.mark.skipif(os.name != "posix", reason="permissions and signals are POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    FusionNet("any", width=2).save(path)
    return str(path)


@pytest.fixture
def scenes(tmp_path):
    """Three scenes of 32×40 pixels."""
    for n in range(3):
        light = np.random.default_rng(n).uniform(0.2, 1, (32, 40, 3))
        (tmp_path / "scenes" / f"s{n}").mkdir(parents=True)
        for name, gain in (("under", 0.4), ("over", 1.6)):
            pixels = np.uint8(255 * np.clip(light * gain, 0, 1))
            Image.fromarray(pixels).save(tmp_path / "scenes" / f"s{n}" / f"{name}.png")
    return tmp_path / "scenes"


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments, words=""):
    """One line on stderr, status 2."""
    result = run(*arguments)
    lines = result.stderr.splitlines()
    what = result.output + repr(result.exception)
    assert len(lines) == 1 and lines[0].startswith("fastmef: error: "), what
    assert words.lower() in lines[0].lower()
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastmef", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        **options,
    )


@pytest.mark.parametrize("place", range(10))
def test_very_long_names(scenes, tmp_path, model, place):
    pair = [scenes / "s0" / "under.png", scenes / "s0" / "over.png"]
    arguments = [
        ("fuse", pair[0], LONG, "-o", tmp_path / "a.png", "--model", model),
        ("fuse", *pair, "-o", f"{LONG}.png", "--model", model),
        ("fuse", *pair, "-o", tmp_path / "a.png", "--model", LONG),
        ("fuse", *pair, "-o", tmp_path / "a.png", "--model", model, "--mask", LONG, "--mask", "-"),
        ("fuse", *pair, "-o", tmp_path / "a.png", "--model", model, "--weights-in", LONG),
        ("fuse", *pair, "-o", tmp_path / "a.png", "--model", model, "--weights-out", LONG),
        ("eval", LONG, "--model", model),
        ("eval", scenes, "--model", model, "--csv", LONG),
        ("train", LONG, "-o", tmp_path / "run"),
        ("train", scenes, "-o", tmp_path / LONG),
    ][place]
    refused(*arguments)


SMALL = ("--width", 2, "--steps", 2, "--patch", 16, "--batch-size", 1, "--scales", 1)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Run every command once, so that another user need not be able to read its modules."""
    folder = tmp_path_factory.mktemp("imported")
    for n in range(2):
        (folder / "scenes" / f"s{n}").mkdir(parents=True)
        for name, level in (("under", 50), ("over", 150)):
            Image.new("RGB", (40, 32), (level,) * 3).save(
                folder / "scenes" / f"s{n}" / f"{name}.png"
            )
    assert run("train", folder / "scenes", "-o", folder / "run", *SMALL).exit_code == 0
    model = folder / "run" / "model.safetensors"
    assert run("eval", folder / "scenes", "--model", model).exit_code == 0


@pytest.fixture
def nobody(imported):
    """A folder in which this process, no longer root, may do nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@posix
@pytest.mark.parametrize("command", ["fuse", "eval", "train", "resume"])
@pytest.mark.parametrize("denied", ["input", "files of input", "output", "model"])
def test_permission_denied(nobody, command, denied):
    scenes, out, model = nobody / "scenes", nobody / "out", nobody / "net.safetensors"
    for n in range(2):
        (scenes / f"s{n}").mkdir(parents=True)
        for name, level in (("under", 50), ("over", 150)):
            Image.new("RGB", (40, 32), (level,) * 3).save(scenes / f"s{n}" / f"{name}.png")
    FusionNet(width=2).save(model)
    out.mkdir()
    if command == "resume":
        assert run("train", scenes, "-o", out, *SMALL).exit_code == 0
    out.chmod(0o755 if denied == "output" else 0o777)
    if command == "resume" and denied != "output":
        for path in out.iterdir():
            path.chmod(0o666)
    (scenes / "s1").chmod({"input": 0, "files of input": 0o744}.get(denied, 0o755))
    model.chmod(0 if denied == "model" else 0o644)
    pair = [scenes / "s1" / "under.png", scenes / "s1" / "over.png"]
    arguments = {
        "fuse": ("fuse", *pair, "-o", out / "a.png", "--model", model),
        "eval": ("eval", scenes, "--csv", out / "a.csv", "--model", model),
        "train": ("train", scenes, "-o", out / "run", "--initial", model, *SMALL),
        "resume": ("train", scenes, "-o", out, "--resume"),
    }[command]
    if (command, denied) == ("resume", "model"):
        (out / "checkpoint.safetensors").chmod(0)
    os.seteuid(65534)
    try:
        refused(*arguments)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "option",
    [("--seed", -1), ("--width", 100_000), ("--learning-rate", "nan"), ("--scales", "nan,1"),
     ("--scales", ""), ("--brightness", "inf"), ("--steps", 10**30)],
)  # fmt: skip
def test_absurd_options(scenes, tmp_path, option):
    result = run("train", scenes, "-o", tmp_path / "run", *option)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(("fastmef: error: ", "Error: Invalid value for")), result.output


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
@pytest.mark.parametrize("command", ["fuse", "eval", "train"])
def test_out_of_memory(scenes, tmp_path, model, monkeypatch, error, command):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(FusionNet, "exposure_features", fail)
    pair = [scenes / "s0" / "under.png", scenes / "s0" / "over.png"]
    arguments = {
        "fuse": ("fuse", *pair, "-o", tmp_path / "a.png", "--model", model),
        "eval": ("eval", scenes, "--model", model),
        "train": ("train", scenes, "-o", tmp_path / "run", "--width", 1, "--patch", 16),
    }[command]
    result = run(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert "memory" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("fuse", "--help"), ("doctor",), ("eval",)])
def test_full_output(scenes, model, arguments):
    if arguments == ("eval",):
        arguments = ("eval", scenes, "--model", model, "--limit", 1)
    with open("/dev/full", "w") as full:
        done = process(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "fastmef: error: cannot write the output: no space left on device\n"


@posix
def test_reader_that_goes_away():
    reader, writer = os.pipe()
    os.close(reader)
    done = process("--help", stdout=writer)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == ""


@posix
def test_closed_output(scenes, tmp_path, model):
    pair = [scenes / "s0" / "under.png", scenes / "s0" / "over.png"]
    line = '"$@" >&-; echo $? >&2'
    done = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "fastmef", "fuse", *pair, "-o",
         tmp_path / "a.png", "--model", model, "--refine", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert done.stderr == "0\n" and (tmp_path / "a.png").exists()


@posix
def test_undecodable_names(scenes, tmp_path, model):
    os.rename(scenes / "s0", os.fsencode(scenes) + b"/s\xff")
    files = ("--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    result = run("eval", scenes, "--model", model, *files)
    assert result.exit_code == 0, result.output
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        assert {row["scene"] for row in csv.DictReader(file)} == {"s1", "s2", r"s\udcff"}
    assert json.loads((tmp_path / "a.json").read_text())["scenes"] == ["s1", "s2", "s\udcff"]


class TestEval:
    def test_damaged_scene_is_left_out(self, scenes, tmp_path, model):
        path = scenes / "s1" / "over.png"
        path.write_bytes(path.read_bytes()[:-20])
        result = run("eval", scenes, "--model", model, "--json", tmp_path / "a.json")
        assert result.exit_code == 2
        note, error = result.stderr.splitlines()
        assert note.startswith(f"fastmef: note: a scene is skipped: {path}: damaged")
        assert error == "fastmef: error: 1 of 3 scenes could not be scored"
        assert "means over 2 scenes" in result.stdout
        report = json.loads((tmp_path / "a.json").read_text())
        assert (report["scenes"], report["left_out"]) == (["s0", "s2"], ["s1"])

    def test_nothing_is_left(self, scenes, tmp_path, model):
        for path in scenes.glob("*/over.png"):
            path.write_bytes(b"")
        result = run("eval", scenes, "--model", model, "--csv", tmp_path / "a.csv")
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.splitlines()[-1].endswith("none of its scenes can be scored")
        assert not (tmp_path / "a.csv").exists()


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signal_while_writing(scenes, tmp_path, model, name):
    """The temporary file is removed, the status says what happened."""
    code = (
        "import os, signal, time\n"
        # Tests that run in the background inherit ignored signals.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "def slow(descriptor):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        "os.fsync = slow\n"
        "from fastmef.cli import main\n"
        "main()\n"
    )
    pair = [scenes / "s0" / "under.png", scenes / "s0" / "over.png"]
    (tmp_path / "out").mkdir()
    arguments = ["fuse", *pair, "-o", tmp_path / "out" / "a.png", "--model", model, "--refine", "0"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "writing\n"
        assert len(list((tmp_path / "out").iterdir())) == 1
        time.sleep(0.2)
        child.send_signal(getattr(signal, name))
        _, error = child.communicate(timeout=60)
    assert list((tmp_path / "out").iterdir()) == []
    assert child.returncode == 128 + getattr(signal, name)
    assert error == "fastmef: stopped\n"


@posix
def test_handlers_of_signals_are_restored(scenes):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    run("eval", scenes / "none")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
