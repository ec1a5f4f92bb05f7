"""bench/gpu.sh on a machine without a GPU, and with a Python that pretends to have one."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from child_environment import child_environment

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("bash", "timeout", "xargs")),
    reason="a bash script for Linux",
)

# Answers for torch and pytest; only bench.collect is run by the real interpreter.
PRETENDER = """#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in
    --benchmark-json=*test_loss*) : >"${argument#*=}"; exit 4 ;;
    --benchmark-json=*test_guided*) echo '{"benchmarks": [{"na' >"${argument#*=}"; exit 137 ;;
    --benchmark-json=*) echo "$RESULT" >"${argument#*=}" ;;
    bench.collect) exec "$REAL" "$@" ;;
    *get_device_name*) echo "NVIDIA Pretended-1 80GB;123" ;;
    setup.py)
      echo "FASTMEF_CUDA $FASTMEF_CUDA, for $FASTMEF_CUDA_ARCHS"
      [ -z "$SLOW" ] || exec sleep 60
      ;;
    tests/kernels) echo "one is wrong"; exit 1 ;;
    */ncu) echo '[{"kernel": "k", "ratio": 1.01}]' >"$argument" ;;
  esac
done
exit 0
"""
RESULT = {
    "machine_info": {"gpu": "x"},
    "datetime": "2030-01-01",
    "version": "5",
    "benchmarks": [{"name": "a", "stats": {"median": 1.0, "data": [1.0]}}],
}
BENCHMARKS = sorted(ROOT.glob("bench/gpu/test_*.py"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the files of a checkout that the script reads."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "weights", "samples", "kernels", "results")
    for name in ("fastmef", "bench", "tests/gpu"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copytree(ROOT / "kernels", root / "kernels")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def run(checkout: Path, *stages: str, **variables: str) -> subprocess.CompletedProcess[str]:
    variables = {"PYTHON": sys.executable, "OUT": str(checkout / "out"), **variables}
    return subprocess.run(
        ["bash", "bench/gpu.sh", *stages],
        cwd=checkout,
        env=child_environment(**variables),
        text=True,
        capture_output=True,
    )


@pytest.fixture
def pretender(checkout: Path) -> dict[str, str]:
    path = checkout / "python"
    path.write_text(PRETENDER)
    path.chmod(0o755)
    variables = {"PYTHON": str(path), "REAL": sys.executable, "RESULT": json.dumps(RESULT)}
    tools = checkout / "tools"
    tools.mkdir()
    for tool in ("ncu", "compute-sanitizer"):
        (tools / tool).write_text("#!/bin/sh\nexit 0\n")
        (tools / tool).chmod(0o755)
    return {**variables, "SLOW": "", "PATH": f"{tools}:{os.environ['PATH']}"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(checkout: Path) -> None:
    result = run(checkout, "tests", "bench", "sanitizer")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tests: passed" in result.stdout
    assert "bench: skipped, no GPU" in result.stdout
    assert "no GPU: nothing was timed" in result.stdout
    assert "no GPU that torch can use" in (checkout / "out" / "gpu.log").read_text()
    assert not list((checkout / "out").glob("*.json"))


def test_one_failure_leaves_the_other_stages(checkout: Path, pretender: dict[str, str]) -> None:
    result = run(checkout, "tests", "bench", "triton", "aot", "merge", **pretender)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert any(x.startswith("triton: FAILED") for x in lines) and "one is wrong" in lines
    assert any(x.startswith("test_loss: FAILED, exit status 4") for x in lines)
    assert any(x.startswith("test_guided: FAILED, stopped after") for x in lines)
    timed = [x.stem for x in BENCHMARKS if x.stem not in ("test_loss", "test_guided")]
    for stage in ("build", "tests", "compile", *timed, "ncu", "aot"):
        assert any(x.startswith(f"{stage}: passed") for x in lines), stage
    data = json.loads((checkout / "out" / "gpu-nvidia-pretended-1-80gb.json").read_text())
    assert data["gpu"] == "NVIDIA Pretended-1 80GB" and data["datetime"] == "2030-01-01"
    names = {x["name"] for x in data["benchmarks"]}
    assert names == {"a"} and len(data["benchmarks"]) == len(timed)
    assert all(x["stats"] == {"median": 1.0} for x in data["benchmarks"])
    ends = {x["name"]: x["status"] == 0 for x in data["stages"]}
    assert data["instructions"] == [{"kernel": "k", "ratio": 1.01}]
    assert ends["build"] and not ends["triton"] and not ends["test_loss"] and ends["test_ssim"]


def test_calls_are_merged_later(checkout: Path, pretender: dict[str, str]) -> None:
    """Calls may run on different days: the last one finds the results of the others."""
    for call in ("tests", "bench", "sanitizer"):
        run(checkout, call, **pretender)
    names = {x.name for x in (checkout / "out").glob("*.json")}
    prefix = "gpu-nvidia-pretended-1-80gb"
    assert names == {f"{prefix}.{call}.json" for call in ("tests", "bench", "sanitizer")}
    assert run(checkout, "merge", **pretender).returncode == 0
    data = json.loads((checkout / "out" / f"{prefix}.json").read_text())
    stages = [x["name"] for x in data["stages"]]
    assert {"tests", "compile", "memcheck", "racecheck", "initcheck", "synccheck"} <= set(stages)
    assert data["benchmarks"] and data["datetime"] == "2030-01-01"


def test_built_for_the_gpu_that_is_there(checkout: Path, pretender: dict[str, str]) -> None:
    for name in ("FASTMEF_CUDA", "FASTMEF_CUDA_ARCHS"):
        pretender[name] = ""  # as if not given
    run(checkout, "tests", **pretender)
    assert "FASTMEF_CUDA 1, for 123" in (checkout / "out" / "gpu.log").read_text()
    pretender["FASTMEF_CUDA_ARCHS"] = "80;90"
    run(checkout, "tests", **pretender)
    assert "FASTMEF_CUDA 1, for 80;90" in (checkout / "out" / "gpu.log").read_text()


def test_a_gpu_that_torch_cannot_use(checkout: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA Pretended-1 (UUID: GPU-0)'\n")
    tool.chmod(0o755)
    result = run(checkout, "sanitizer", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "FAILED: there is a GPU, but torch cannot use it" in result.stdout


def test_slow_stage_is_stopped(checkout: Path, pretender: dict[str, str]) -> None:
    result = run(checkout, "tests", "aot", **{**pretender, "SLOW": "1", "SECONDS_IN_ALL": "6"})
    assert result.returncode == 1
    assert "build: FAILED, stopped after" in result.stdout
    assert "tests: FAILED, no time left" in result.stdout
    assert "aot: passed" in result.stdout  # each call has its own time


def test_unknown_stage(checkout: Path, pretender: dict[str, str]) -> None:
    result = run(checkout, "everything", **pretender)
    assert result.returncode == 2 and "no call everything" in result.stderr


def collector() -> SimpleNamespace:
    """bench/collect.py: tests also run where the checkout is not on the path."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "bench" / "collect.py")))


def rehearse(checkout: Path, chosen: str, interpreted: bool) -> dict[str, Any]:
    """Run the selected benchmarks once on the CPU, and return the result file."""
    (checkout / "fastmef" / "kernels").symlink_to("../kernels")
    if interpreted:
        pytest.importorskip("triton", minversion="3.4", reason="Triton 3.4 interprets them")
    variables = {"TRITON_INTERPRET": str(int(interpreted)), "PYTHONPATH": str(checkout)}
    if not interpreted:  # a build of torch for CUDA would have them, and look for a GPU
        variables["FASTMEF_TRITON"] = "0"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "bench/gpu"]
        + ["--rehearse", "-k", chosen, "--benchmark-json=out.json"],
        cwd=checkout,
        env=child_environment(**variables),
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((checkout / "out.json").read_text())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "chosen, interpreted",
    [
        (
            "8x250x250 and not traffic or guided or mef_ssim or fuse or copy or bandwidth"
            " or norm_act and not fastmef and (512 or pool)",
            False,
        ),
        ("traffic or norm_act and fastmef and (512 or pool)", True),
    ],
)
def test_rehearsal_of_the_benchmarks(checkout: Path, chosen: str, interpreted: bool) -> None:
    data = rehearse(checkout, chosen, interpreted)
    assert data["machine_info"]["torch"] == torch.__version__ and data["benchmarks"]
    collector().add_multiples(data["benchmarks"])
    compared = [x for x in data["benchmarks"] if "multiple" in x["extra_info"]]
    assert compared or not chosen.startswith("8x250x250")
    for benchmark in data["benchmarks"]:
        assert benchmark["group"] and benchmark["stats"]["rounds"] == 1
        assert "mef_ssim" in benchmark["name"] or benchmark["extra_info"]["bytes"] > 0


def benchmark(test: str, group: str, ms: float = 2, **info: float) -> dict[str, Any]:
    return {"name": test, "group": group, "stats": {"median": ms / 1000}, "extra_info": info}


def test_share_of_the_bandwidth_of_a_copy() -> None:
    collect = collector()
    benchmarks = [
        benchmark("copy", collect.COPY, bytes=1000, device_ms=2),
        benchmark("half", "loss", bytes=500, device_ms=2),
        benchmark("uncaptured", "loss", bytes=500),
    ]
    collect.add_shares(benchmarks)
    shares = [x["extra_info"].get("share_of_copy") for x in benchmarks]
    assert shares == [1.0, 0.5, None]
    assert any("50.0% " in x and x.endswith("half") for x in collect.table(benchmarks).splitlines())


def test_multiples_of_our_time() -> None:
    collect = collector()
    ours = {"name": "fastmef"}
    benchmarks = [
        {**benchmark("other size", "large", 40, device_ms=40), "params": ours},
        {**benchmark("two passes", "small", 6, device_ms=3), "params": {"name": "triton"}},
        {**benchmark("eager", "small", 9), "params": {"name": "eager"}},
        {**benchmark("one pass", "small", 4, device_ms=1), "params": ours},
        {**benchmark("peer", "small", 8), "params": {"name": "fused-ssim, luminance"}},
        {**benchmark("ours with it", "small", 5), "params": {"name": "fastmef, luminance"}},
        {**benchmark("copy", "small", 2, device_ms=0.5), "params": None},
        benchmark("alone", collect.COPY, device_ms=2),
    ]
    collect.add_multiples(benchmarks)
    found = {x["name"]: x["extra_info"] for x in benchmarks}
    multiples = {name: x["multiple"] for name, x in found.items() if "multiple" in x}
    assert multiples == {"two passes": 1.5, "eager": 2.25, "peer": 1.6, "copy": 0.5}
    by_the_gpu = {n: x["device_multiple"] for n, x in found.items() if "device_multiple" in x}
    assert by_the_gpu == {"two passes": 3.0, "copy": 0.5}
    lines = collect.table(benchmarks).splitlines()
    assert any("(3.00)" in x and x.endswith("two passes") for x in lines)
    assert any("(2.25)" in x and x.endswith("eager") for x in lines)
