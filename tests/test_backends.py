"""Why kernels are not active is said in one line, for every reason there is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastmef import backends
from fastmef.ops.common.operation import OPERATIONS
from fastmef.ops.fusion import SOFTMAX_FUSE


@pytest.fixture
def usable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which nothing is missing."""
    monkeypatch.delenv("FASTMEF_TRITON", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(backends, "INTERPRETED", False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.6.0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return monkeypatch


def without(missing: str) -> Callable[[str], str | None]:
    return lambda name: None if name == missing else name


def test_nothing_is_missing(usable: pytest.MonkeyPatch) -> None:
    assert backends._why_no_triton() == ""


def test_switched_off(usable: pytest.MonkeyPatch) -> None:
    usable.setenv("FASTMEF_TRITON", "0")
    assert backends._why_no_triton() == "switched off by FASTMEF_TRITON=0"


@pytest.mark.parametrize("name, reason", [("triton", "not installed"), ("fastmef.kernels", "not")])
def test_package_is_missing(usable: pytest.MonkeyPatch, name: str, reason: str) -> None:
    usable.setattr(importlib.util, "find_spec", without(name))
    assert name in backends._why_no_triton() and reason in backends._why_no_triton()


@pytest.mark.parametrize("version", ["2.3.1", "3.2.0", "3.3.1+git1234"])
def test_too_old(usable: pytest.MonkeyPatch, version: str) -> None:
    usable.setattr(importlib.metadata, "version", lambda name: version)
    expected = f"triton {version} is too old, 3.4 is needed (torch 2.8 brings it)"
    assert backends._why_no_triton() == expected


@pytest.mark.parametrize("version", ["3.4.0", "3.10.0", "4.0.0+cu130"])
def test_new_enough(usable: pytest.MonkeyPatch, version: str) -> None:
    usable.setattr(importlib.metadata, "version", lambda name: version)
    assert backends._why_no_triton() == ""


def test_distributed_under_another_name(usable: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    class Old:
        __version__ = "3.1.0"

    def fails(name: str) -> Any:
        raise ImportError("libcuda.so.1 is missing")

    usable.setattr(importlib.metadata, "version", version)
    usable.setattr(importlib, "import_module", lambda name: Old)
    assert "triton 3.1.0 is too old" in backends._why_no_triton()
    usable.setattr(importlib, "import_module", fails)
    assert "cannot be imported (libcuda.so.1" in backends._why_no_triton()


def test_torch_for_the_cpu(usable: pytest.MonkeyPatch) -> None:
    usable.setattr(torch.version, "cuda", None)
    usable.setattr(torch.version, "hip", None)
    assert backends._why_no_triton() == "this torch was built for the CPU only"
    usable.setattr(backends, "INTERPRETED", True)
    assert backends._why_no_triton() == ""


def test_no_compiler(usable: pytest.MonkeyPatch) -> None:
    usable.setattr(shutil, "which", lambda name: None)
    assert "no C compiler" in backends._why_no_triton()
    usable.setenv("CC", "zig-cc")
    usable.setattr(shutil, "which", lambda name: name if name == "zig-cc" else None)
    assert backends._why_no_triton() == ""


def test_no_gpu(usable: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    usable.setattr(backends, "WHY_NO_TRITON", "")
    usable.setattr(torch.cuda, "is_available", lambda: False)
    assert backends.triton_status() == "no GPU that torch can use"


def test_reference_runs_where_triton_cannot(usable: pytest.MonkeyPatch) -> None:
    class OnGpu:
        device = torch.device("cuda")
        dtype = torch.float32

    given: Any = OnGpu(), OnGpu()
    usable.setattr(backends, "WHY_NO_CUDA", "another matter")
    usable.setattr(backends, "WHY_NO_TRITON", "a reason")
    assert SOFTMAX_FUSE.backend(*given) == backends.REFERENCE
    usable.setattr(backends, "WHY_NO_TRITON", "")
    assert SOFTMAX_FUSE.backend(*given) == backends.TRITON
    OnGpu.dtype = torch.float64
    assert SOFTMAX_FUSE.backend(*given) == backends.REFERENCE


def show_config(**variables: str) -> str:
    code = "import fastmef; fastmef.show_config()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(backends.INTERPRETED, reason="its own process has another Triton")
def test_old_triton_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text('__version__ = "3.3.1"')
    (tmp_path / "triton-3.3.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: triton\nVersion: 3.3.1\n"
    (tmp_path / "triton-3.3.1.dist-info" / "METADATA").write_text(metadata)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    shown = show_config(PYTHONPATH=path, FASTMEF_TRITON="auto")
    assert "Triton kernels: triton 3.3.1 is too old, 3.4 is needed (torch 2.8" in shown
    assert "Triton on" not in shown


def test_reference_runs_without_any_kernels() -> None:
    shown = show_config(FASTMEF_CPU="0", FASTMEF_CUDA="0", FASTMEF_TRITON="0")
    assert "\nC++ kernels: switched off by FASTMEF_CPU=0\n" in shown
    assert "\nCUDA C++ kernels: switched off by FASTMEF_CUDA=0\n" in shown
    assert "\nTriton kernels: switched off by FASTMEF_TRITON=0\n" in shown
    assert shown.count("reference (plain PyTorch)") == len(OPERATIONS)


def test_cpu_kernels_were_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.delenv("FASTMEF_CPU", raising=False)
    monkeypatch.setattr(backends, "INTERPRETED", False)
    monkeypatch.setattr(importlib, "import_module", fails)
    module, reason = backends._load_cpu()
    assert module is None
    assert reason == "not built, or not loadable here (No module named 'fastmef._cpu')"
    monkeypatch.setattr(backends, "CPU", None)
    assert SOFTMAX_FUSE.backend(torch.zeros(1), torch.zeros(1)) == backends.REFERENCE
