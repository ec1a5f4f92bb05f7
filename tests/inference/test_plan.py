"""The bracket and the available memory decide what is kept in memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fastmef.data.images import write_image
from fastmef.errors import InputError
from fastmef.inference.memory import available_memory, format_memory, parse_memory, peak_memory
from fastmef.inference.plan import Bracket, estimate, make_plan
from tests.support.photographs import photographs

CAMERA = Bracket(2, 4000, 6000, 3, 1)


@pytest.mark.parametrize(("megabytes", "kept"), [(200, 2), (400, 1)])
def test_more_memory_keeps_more(megabytes, kept):
    plan = make_plan(replace(CAMERA, in_memory=True), megabytes * 10**6)
    assert plan.kept == kept
    assert plan.memory <= megabytes * 10**6


def test_files_keep_less():
    assert make_plan(CAMERA, 10**10).kept == 2
    assert make_plan(replace(CAMERA, count=9, height=8000), 10**10).kept == 3
    assert make_plan(CAMERA, 10**10).strip == 256
    assert make_plan(replace(CAMERA, width=60_000), 10**10).strip == 32


@pytest.mark.parametrize("size", [(1, 1), (100, 200), (400, 400), (16000, 24000)])
def test_any_size_has_a_plan(size):
    plan = make_plan(replace(CAMERA, height=size[0], width=size[1]), 10**11)
    assert plan.kept >= 1 and plan.strip % 2**plan.kept == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError) as caught:
        make_plan(CAMERA, 10**7)
    assert "2 images of 6000×4000 pixels need " in str(caught.value)
    assert ", 10 MB can be used; --memory" in str(caught.value)
    with pytest.raises(InputError):
        make_plan(replace(CAMERA, resident_bytes=10**9), 10**9)


@pytest.mark.parametrize(
    "more",
    [{"count": 3}, {"height": 5000}, {"itemsize": 2}, {"masked": True}, {"streams": True},
     {"floating": True, "itemsize": 4}, {"resident_bytes": 1}],
)  # fmt: skip
def test_estimate_grows(more):
    wide = replace(CAMERA, width=60_000)  # strips need more memory than the base
    assert estimate(replace(wide, **more), 2, 128) > estimate(wide, 2, 128)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("600M", 6 * 10**8), ("1.5 GiB", 3 * 2**29), ("12345", 12345), (7e8, 7e8)],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("size", ["", "GB", "-1", "1e9", 0, -5, float("nan"), float("inf"), True])
def test_no_sizes(size):
    with pytest.raises(InputError, match="memory must be a size such as 2GB"):
        parse_memory(size)


MEASURE = """
import re
import sys
from pathlib import Path
from fastmef.allocator import keep_freed_memory
from fastmef.inference import fuser
from fastmef.inference.memory import used_memory

keep_freed_memory()
make_plan = fuser.make_plan
predicted = []

def noted(bracket, memory):
    plan = make_plan(bracket, memory)
    predicted.append(used_memory() + plan.memory)
    return plan

fuser.make_plan = noted
output, *images = sys.argv[1:]
fuser.Fuser(device="cpu").fuse_into(output, images, want_weights=False)
# The maximum of getrusage would begin with the memory of the parent process.
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
print(predicted[0], int(peak.group(1)) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured with glibc's malloc")
@pytest.mark.parametrize(("suffix", "count"), [(".png", 2), (".jpg", 9)])
def test_prediction_is_above_the_peak(tmp_path, suffix, count):
    paths = [tmp_path / f"{k}{suffix}" for k in range(count)]
    for path, image in zip(paths, photographs(900, 1200, count), strict=True):
        write_image(path, image)
    command = [sys.executable, "-c", MEASURE, tmp_path / f"fused{suffix}", *paths]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    predicted, peak = map(int, answer.stdout.split())
    assert peak <= predicted <= 1.5 * peak


def test_memory_of_the_machine(monkeypatch, tmp_path):
    before = peak_memory()
    block = np.ones(30_000_000)
    assert before is None or peak_memory() >= before + 0.5 * block.nbytes or before > 3e8
    free = available_memory()
    assert free > 0
    limit, use = tmp_path / "limit", tmp_path / "use"
    limit.write_text(str(5000))
    use.write_text(str(3000))
    monkeypatch.setattr("fastmef.inference.memory._CGROUPS", ((str(limit), str(use)),))
    assert available_memory() == 2000
    limit.write_text("max")
    assert available_memory() > 2000


def test_format():
    assert format_memory(612_400_000) == "612 MB" and format_memory(1_530_000_000) == "1.53 GB"
