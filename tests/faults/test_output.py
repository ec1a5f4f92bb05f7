"""Files appear complete or not at all: full disks at every position, kills, races, odd targets."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastmef import FusionNet
from fastmef.data.files import atomic_write
from fastmef.data.images import read_image, write_image
from fastmef.errors import OutputError

resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


@contextlib.contextmanager
def full_disk(size):
    """Make the system accept the first ``size`` bytes of a file and refuse all others."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "hdr", "exr"])
def test_picture_on_a_full_disk(tmp_path, kind, effort, rng, count):
    write_image(tmp_path / f"whole.{kind}", PIXELS)
    size = (tmp_path / f"whole.{kind}").stat().st_size
    (tmp_path / f"old.{kind}").write_bytes(b"old")
    positions = range(size)
    sample = rng.sample(positions, min(size, effort(40, size)))
    for position in sorted({*sample, 0, 1, size - 1}):
        with full_disk(position):
            with pytest.raises(OutputError, match="too large|no space"):
                write_image(tmp_path / f"new.{kind}", PIXELS)
            with pytest.raises(OutputError, match="too large|no space"):
                write_image(tmp_path / f"old.{kind}", PIXELS, force=True)
        assert {p.name for p in tmp_path.iterdir()} == {f"whole.{kind}", f"old.{kind}"}
        assert (tmp_path / f"old.{kind}").read_bytes() == b"old"
    with full_disk(size):
        write_image(tmp_path / f"new.{kind}", PIXELS)
    assert (tmp_path / f"new.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    count(f"{2 * len(sample)} full disks while writing .{kind}")


def test_model_on_a_full_disk(tmp_path, effort, rng, count):
    network = FusionNet(width=1)
    network.save(tmp_path / "net.safetensors")
    whole = (tmp_path / "net.safetensors").read_bytes()
    positions = rng.sample(range(len(whole)), min(len(whole), effort(40, len(whole))))
    for position in positions:
        with full_disk(position), pytest.raises(OutputError, match="too large|no space"):
            network.save(tmp_path / "net.safetensors")
        assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
        assert (tmp_path / "net.safetensors").read_bytes() == whole
    count(f"{len(positions)} full disks while writing a model")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root")
def test_picture_on_a_small_file_system(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path]).returncode:
        pytest.skip("mounting is not allowed here")
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    try:
        for name in ("a.png", "a.tif", "a.jpg", "a.exr", "a.hdr"):
            with pytest.raises(OutputError, match="no space left"):
                write_image(tmp_path / name, noise)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_one_of_many_writers_succeeds(tmp_path, effort, count):
    rounds, writers = effort(30, 1000), 4
    for n in range(rounds):
        path, barrier, results = tmp_path / f"{n}.txt", threading.Barrier(writers), []

        def write(k, path=path, barrier=barrier, results=results):
            barrier.wait()
            try:
                atomic_write(path, b"%d" % k * 1000)
                results.append(k)
            except OutputError as error:
                assert "exists already" in str(error)

        threads = [threading.Thread(target=write, args=(k,)) for k in range(writers)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(results) == 1
        assert path.read_bytes() == b"%d" % results[0] * 1000
    assert len(list(tmp_path.iterdir())) == rounds
    count(f"{rounds} races of {writers} writers for a name")


def test_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    atomic_write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    with pytest.raises(OutputError, match="exists already"):
        atomic_write(tmp_path / "a", b"newer")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def _write_for_ever(folder, started):
    n = 0
    while True:
        atomic_write(f"{folder}/a.bin", b"%04d" % n * 50_000, force=True)
        started.set()
        n = (n + 1) % 10_000


def test_killed_writers(tmp_path, effort, rng, count):
    """A file is complete after every kill, and the next writer removes temporary files."""
    kills, left = effort(10, 500), 0
    context = multiprocessing.get_context("fork")
    for _ in range(kills):
        started = context.Event()
        process = context.Process(target=_write_for_ever, args=(str(tmp_path), started))
        process.start()
        assert started.wait(60)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        content = (tmp_path / "a.bin").read_bytes()
        assert content == content[:4] * 50_000
        left += sum(path.name.startswith(".fastmef-") for path in tmp_path.iterdir())
        atomic_write(tmp_path / "b.bin", b"next", force=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b.bin"]
    count(f"{kills} kills of a writer, {left} of which left a temporary file")


def test_temporary_file_of_another_writer_is_kept(tmp_path, monkeypatch):
    inside, fsync = [], os.fsync

    def write_meanwhile(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        code = (
            "import sys; from fastmef.data.files import atomic_write;"
            "atomic_write(sys.argv[1], b'other')"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / "other"], check=True)
        inside.extend(p.name for p in tmp_path.iterdir())

    monkeypatch.setattr(os, "fsync", write_meanwhile)
    atomic_write(tmp_path / "a", b"mine")
    assert len(inside) == 2 and "other" in inside
    assert (tmp_path / "a").read_bytes() == b"mine"


class TestTargets:
    def refused(self, path, words):
        for force in (False, True):
            with pytest.raises(OutputError, match=words):
                atomic_write(path, b"x", force)

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        self.refused(tmp_path / "pipe", "only regular files are replaced")
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_device(self, tmp_path):
        (tmp_path / "link").symlink_to("/dev/null")
        for path in ("/dev/null", tmp_path / "link"):
            self.refused(path, "only regular files are replaced")
            with pytest.raises(OutputError, match="only regular files are replaced"):
                FusionNet(width=1).save(path)
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)

    def test_mode_is_kept(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"old")
        path.chmod(0o604)
        atomic_write(path, b"new", force=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o604

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
    def test_owner_is_kept(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"old")
        os.chown(path, 12345, 23456)
        atomic_write(path, b"new", force=True)
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)

    def test_very_long_name(self, tmp_path):
        self.refused(tmp_path / ("n" * 5000), "too long")


def test_large_profile_comes_back(tmp_path):
    """A profile of more than 1 MiB, which Pillow writes to PNG and does not read."""
    profile = bytearray(3 << 20)
    profile[16:20] = b"RGB "
    write_image(tmp_path / "a.png", PIXELS, icc_profile=bytes(profile))
    assert read_image(tmp_path / "a.png").icc_profile == profile
