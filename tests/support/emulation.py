"""Compile the CUDA kernels for the CPU, with a replacement for CUDA's header.

Launchers, kernels and binding are the sources that nvcc compiles. The emulation does not test speed
or interactions of threads of a warp that run at the same time.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
EMULATION = ROOT / "tests" / "cuda" / "emulation"
NAME = "_cuda_emulated"


def why_not() -> str:
    """Say why the kernels cannot be compiled here; empty if they can."""
    if not CSRC.is_dir():
        return "the sources of the CUDA kernels are not here"
    if importlib.util.find_spec("pybind11") is None:
        return "pybind11 is not installed"
    if sys.platform != "linux" or not _compiler():
        return "no C++ compiler on Linux (c++, g++ or clang++; CXX names another)"
    return ""


def _compiler() -> str | None:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return name
    return None


def _build(library: Path) -> None:
    import pybind11

    includes = (EMULATION, CSRC, pybind11.get_include(), sysconfig.get_paths()["include"])
    flags = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-unknown-pragmas"]
    # A misaligned or out-of-bounds access ends the process, which needs no run-time library.
    flags += ["-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"]
    flags += [f"-DFASTMEF_MODULE={NAME}", '-DFASTMEF_CUDA_BUILT_FOR="no GPU"']
    flags += [f"-I{x}" for x in includes]
    commands, objects = [], []
    for source in (CSRC / "common" / "module.cpp", *sorted(CSRC.glob("cuda/*/*.c*"))):
        objects.append(library.with_name(f"{source.parent.name}_{source.stem}.o"))
        command = [_compiler(), *flags, "-x", "c++", "-c", source, "-o", objects[-1]]
        commands.append(subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE))
    for command in commands:
        _, errors = command.communicate()
        if command.returncode:
            raise RuntimeError(errors.decode())
    subprocess.run([str(_compiler()), "-shared", *map(str, objects), "-o", library], check=True)


def load(folder: Path) -> ModuleType:
    """Import the kernels from ``folder``; compile them first if necessary."""
    library = folder / f"{NAME}.so"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        _build(library)
    spec = importlib.util.spec_from_file_location(NAME, library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
