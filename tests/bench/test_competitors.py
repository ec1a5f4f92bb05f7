"""The registry of competitors, and the kernels without which no benchmark runs."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from child_environment import child_environment

pytest.importorskip("pytest_benchmark")

from bench import competitors as registry  # noqa: E402
from bench import conftest as benchmarks  # noqa: E402
from fastmef import backends  # noqa: E402

ROOT = Path(__file__).parents[2]
SMALLEST = ["bench/test_threads.py", "-k", "1x64x64 and fastmef", "-p", "no:cacheprovider"]


def test_a_competitor_is_three_lines(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    before = set(registry.competitors("ssim"))

    @registry.competitor("ssim", "new", needs="math", gradient=True)
    def new(package):
        return lambda a, b: package.pi

    assert set(registry.competitors("ssim")) == before | {"new"}
    assert registry.competitors("ssim")["new"].load()(1, 2) == pytest.approx(3.14159, abs=1e-5)


def test_absent_packages_are_skipped(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", {})
    registry.competitor("ssim", "absent", needs="no_such_package")(lambda package: package)
    with pytest.raises(pytest.skip.Exception, match="no_such_package"):
        registry.competitors("ssim")["absent"].load()


@pytest.mark.skipif(backends.CPU is None, reason="no C++ kernels")
def test_an_installed_package_that_is_hidden(monkeypatch, tmp_path):
    (tmp_path / "fastmef").mkdir()
    hidden = SimpleNamespace(locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(benchmarks.importlib.metadata, "distribution", lambda name: hidden)
    assert "hides the one that is installed in" in benchmarks.missing_kernels()
    # An editable installation has no folder of its own.
    (tmp_path / "fastmef").rmdir()
    assert benchmarks.missing_kernels() == ""


@pytest.mark.parametrize("triton", ["", "not installed"])
@pytest.mark.parametrize("rehearsed", [False, True])
def test_a_gpu_without_kernels_is_refused(monkeypatch, triton, rehearsed):
    gpu = importlib.import_module("bench.gpu.conftest")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "WHY_NO_TRITON", triton)
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "not built")
    config = SimpleNamespace(getoption=lambda name, default: rehearsed)
    reason = "Triton: not installed. CUDA C[+]{2}: not built"
    refused = pytest.raises(pytest.UsageError, match=reason)
    item = SimpleNamespace(path=gpu.HERE / "test_ssim.py")
    with refused if triton and not rehearsed else contextlib.nullcontext():
        gpu.pytest_collection_modifyitems(config, [item])
        gpu.pytest_collection_modifyitems(config, [])


@pytest.fixture
def checkout(tmp_path):
    """The checkout as it is before anything is compiled."""
    skip = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "kernels")
    for name in ("bench", "fastmef"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    (tmp_path / "fastmef" / "kernels").symlink_to(ROOT / "kernels")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", *SMALLEST, *arguments],
        cwd=checkout,
        env=child_environment(**environment),
        text=True,
        capture_output=True,
    )


def test_a_checkout_without_compiled_kernels_is_refused(checkout):
    # An editable installation would find its kernels for any copy of the package.
    result = run(checkout, FASTMEF_CPU="0")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR, result.stdout
    assert f"imported from {checkout / 'fastmef'}, without its C++ kernels" in result.stderr
    assert "passed" not in result.stdout


@pytest.mark.skipif(backends.CPU is None, reason="no C++ kernels")
def test_histogram(checkout):
    pytest.importorskip("pygal", reason="the bench extra brings it")
    shutil.rmtree(checkout / "fastmef")  # the installed package is measured
    result = run(checkout, "--benchmark-histogram=drawn")
    assert result.returncode == 0, result.stdout + result.stderr
    (figure,) = checkout.glob("drawn*.svg")
    assert "</svg>" in figure.read_text()
