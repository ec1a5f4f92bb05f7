"""setup.py's build step where a compiler is missing or fails: installation goes on, and says so."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("setuptools")
pytest.importorskip("pybind11")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="MSVC is not found through CC")

ROOT = Path(__file__).parent.parent
# One cannot be started; the other starts and fails (an interpreter refuses a compiler's options).
FAILING = ("no-such-compiler", sys.executable)


def build(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build into ``folder``; extensions are off unless ``variables`` switch them on."""
    into = [f"--build-lib={folder / 'lib'}", f"--build-temp={folder / 'temp'}"]
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *into],
        cwd=ROOT,
        env={**os.environ, "FASTMEF_CPU": "0", "FASTMEF_CUDA": "0", **variables},
        text=True,
        capture_output=True,
    )


def own_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("fastmef: ")]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of setup.py, which declares nothing to build here."""
    import setuptools

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FASTMEF_CPU", "0")
    monkeypatch.setenv("FASTMEF_CUDA", "0")
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    return runpy.run_path("setup.py")


def test_flags_follow_the_list_of_instruction_sets(names: dict[str, Any]) -> None:
    variants = names["x86_variants"]()
    assert list(variants) == ["avx512", "avx2", "baseline"]  # the best first
    assert variants["baseline"] == []
    assert variants["avx2"] == ["-mavx2", "-mfma"]
    assert {"-mavx512f", "-mfma", "-mprefer-vector-width=512"} <= set(variants["avx512"])
    assert not any(flag.startswith("-march") for flags in variants.values() for flag in flags)


def test_every_source_is_compiled(names: dict[str, Any]) -> None:
    sources = {str(x.relative_to(ROOT)) for x in (ROOT / "csrc").rglob("*.c*")}
    variants, common = names["VARIANT_SOURCES"], names["COMMON_SOURCES"]
    assert sources == {*variants, *common, *names["CUDA_SOURCES"], *names["CUDA_BINDINGS"]}
    # Sources for instruction sets contain no code of pybind11, which the linker would merge.
    for text in ((ROOT / x).read_text() for x in {*variants} & {*common}):
        assert text.index("#ifdef FASTMEF_ISA") < text.index("#else") < text.index("binding.h")


def test_both_left_out(tmp_path: Path) -> None:
    result = build(tmp_path, CC="no-such-compiler", CXX="no-such-compiler")
    assert result.returncode == 0, result.stderr
    assert own_lines(result) == [] and not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize("compiler", FAILING)
def test_failed_build_is_one_line(tmp_path: Path, compiler: str) -> None:
    result = build(tmp_path, CC=compiler, CXX=compiler, FASTMEF_CPU="auto")
    assert result.returncode == 0, result.stderr
    (line,) = own_lines(result)
    assert "the C++ kernels were not built, falling back to PyTorch" in line
    assert compiler in line and not list(tmp_path.rglob("*.so"))


@pytest.mark.parametrize("compiler", FAILING)
def test_failed_build_is_an_error_where_it_was_asked_for(tmp_path: Path, compiler: str) -> None:
    result = build(tmp_path, CC=compiler, CXX=compiler, FASTMEF_CPU="1")
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith("error: ") and compiler in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the compiler is a script for a shell")
def test_only_what_is_outdated_is_compiled_again(tmp_path: Path) -> None:
    compiler, log = tmp_path / "compiler", tmp_path / "log"
    compiler.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        'while [ "$1" ]; do [ "$1" = -o ] && touch "$2"; shift; done; true\n'
    )
    compiler.chmod(0o755)

    def compiled(**variables: str) -> list[str]:
        """Return the objects that a build compiles for instruction sets."""
        log.write_text("")
        build(tmp_path, CC=str(compiler), CXX=str(compiler), FASTMEF_CPU="1", **variables)
        commands = [line.split() for line in log.read_text().splitlines()]
        return [
            line[line.index("-o") + 1]
            for line in commands
            if "-c" in line
            and "/csrc/cpu/" in line[line.index("-o") + 1]
            and any(x.startswith("-DFASTMEF_ISA") for x in line)
        ]

    every = compiled()
    assert len(every) > 30 and compiled() == []
    os.utime(every[7], (0, 0))
    assert compiled() == [every[7]]
    assert len(compiled(FASTMEF_CPU_FLAGS="-DANOTHER")) == len(every)


def test_no_nvcc_is_one_line(tmp_path: Path) -> None:
    result = build(tmp_path, CUDACXX="/bin/echo", FASTMEF_CUDA="auto")
    assert result.returncode == 0, result.stderr
    if sys.platform == "linux":
        reason = "/bin/echo --version names no release"
        assert own_lines(result) == [f"fastmef: the CUDA C++ kernels are not built ({reason})"]


def test_no_nvcc_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    result = build(tmp_path, CUDACXX="/bin/echo", FASTMEF_CUDA="1")
    assert result.returncode != 0 and "names no release" in result.stderr


@pytest.mark.parametrize("variable", ["FASTMEF_CPU", "FASTMEF_CUDA"])
def test_value_is_not_known(tmp_path: Path, variable: str) -> None:
    result = build(tmp_path, **{variable: "maybe"})
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1] == f"{variable} is 'maybe'; allowed are auto, 0 and 1"
