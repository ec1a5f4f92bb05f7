"""List the packages and build the optional compiled extensions; the rest is in pyproject.toml.

FASTMEF_CPU is ``auto`` (default: a failed build is reported in one line and installation
continues), ``0`` (do not build) or ``1`` (a failed build is an error). FASTMEF_CUDA takes the same
values; with ``auto``, the CUDA kernels are built if nvcc is found (CUDACXX, CUDA_HOME/bin, the
path, /usr/local/cuda/bin).

FASTMEF_CUDA_ARCHS lists compute capabilities, such as "80;90;90+PTX". The default is all of
CUDA_ARCHS that nvcc supports, and PTX for the newest one, which later GPUs compile when they first
load it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_namespace_packages, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

CSRC = Path("csrc")
MODULE = str(CSRC / "common" / "module.cpp")


def cpu_sources(word: str) -> list[str]:
    """Return the C++ sources that contain ``word``."""
    return sorted(str(path) for path in CSRC.glob("cpu/*/*.cpp") if word in path.read_text())


# Sources that define kernels are compiled once for each instruction set. Sources that bind them to
# Python, which may be the same files, and shared run-time code are compiled once.
VARIANT_SOURCES = cpu_sources("namespace FASTMEF_ISA")
COMMON_SOURCES = sorted(
    {MODULE, *cpu_sources("FASTMEF_BINDING(")} | ({*cpu_sources("")} - {*VARIANT_SOURCES})
)
CUDA_SOURCES = sorted(str(path) for path in CSRC.glob("cuda/*/*.cu"))
CUDA_BINDINGS = [MODULE, *sorted(str(path) for path in CSRC.glob("cuda/*/*.cpp"))]
CUDA_ARCHS = ("80", "86", "89", "90", "100", "120")
OLDEST_NVCC = (12, 0)
HEADERS = sorted(str(path) for path in CSRC.glob("**/*.h"))


def wanted(variable: str) -> str:
    """Return the value of FASTMEF_CPU or FASTMEF_CUDA."""
    value = os.environ.get(variable, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{variable} is {value!r}; allowed are auto, 0 and 1")
    return value


class BuildExtensions(build_ext):
    """Compile some sources once for each instruction set; an optional extension may fail."""

    def build_extension(self, ext: Extension) -> None:
        cuda = ext.name == "fastmef._cuda"
        try:
            self._build_cuda(ext) if cuda else self._build_cpu(ext)
        except Exception as error:
            if wanted("FASTMEF_CUDA" if cuda else "FASTMEF_CPU") == "1":
                raise
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
            kernels, instead = ("CUDA C++", "Triton") if cuda else ("C++", "PyTorch")
            print(
                f"fastmef: the {kernels} kernels were not built, falling back to {instead} "
                f"({reason})",
                file=sys.stderr,
            )

    def _build_cuda(self, ext: Extension) -> None:
        nvcc = find_nvcc()
        targets = cuda_targets(nvcc)
        flags = ["-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden", "--threads=0"]
        python = sysconfig.get_paths()["include"]
        includes = [f"-I{x}" for x in (*ext.include_dirs, python)]
        flags.append("-Xfatbin=-compress-all")  # a third of the size; every driver can read it
        for target in targets:
            number, ptx = target.removesuffix("+PTX"), target.endswith("+PTX")
            code = f"compute_{number}" if ptx else f"sm_{number}"
            flags.append(f"--generate-code=arch=compute_{number},code={code}")
        folder = self._object_folder("cuda", [nvcc, *flags])
        folder.mkdir(parents=True, exist_ok=True)
        ext.extra_objects = [str(folder / f"{Path(source).stem}.o") for source in CUDA_SOURCES]
        command = [nvcc, *flags, *includes, "-c"]
        # Only the later steps of nvcc are divided by architecture: sources compile in parallel.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pairs = zip(CUDA_SOURCES, ext.extra_objects, strict=True)
            jobs = [
                pool.submit(self.spawn, [*command, source, "-o", result])
                for source, result in pairs
                if outdated(result, source)
            ]
            for job in jobs:
                job.result()
        if home := cuda_home(nvcc):
            ext.include_dirs.append(cuda_folder(home, "include", "cuda_runtime.h"))
            ext.library_dirs.append(cuda_folder(home, "lib*", "libcudart_static.a"))
        ext.libraries = ["cudart_static", "dl", "rt", "pthread"]
        ext.define_macros += [
            ("FASTMEF_MODULE", "_cuda"),
            ("FASTMEF_CUDA_BUILT_FOR", f'"{", ".join("sm_" + x for x in targets)}"'),
        ]
        ext.extra_compile_args = ["-O2", "-g0", "-std=c++17", "-fvisibility=hidden"]
        ext.depends += ext.extra_objects
        super().build_extension(ext)

    def _build_cpu(self, ext: Extension) -> None:
        unix = self.compiler.compiler_type == "unix"
        x86 = unix and platform.machine().lower() in ("x86_64", "amd64")
        variants = x86_variants() if x86 else {"baseline": []}
        # -g0: Python's own flags ask for debug information, which is seven times the code.
        flags = ["/O2", "/std:c++17"]
        if unix:
            flags = ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden"]
        # Without these flags, loops with a square root or a selection are not vectorised.
        arithmetic = ["-fno-math-errno", "-fno-trapping-math"] if unix else []
        extra = os.environ.get("FASTMEF_CPU_FLAGS", "").split()
        macros = [("FASTMEF_X86", "1")] if x86 else []
        ext.define_macros += [("FASTMEF_MODULE", "_cpu"), *macros]
        ext.extra_compile_args = [*flags, *extra]
        ext.extra_link_args = extra
        ext.extra_objects = []

        def compile_one(variant: str, source: str) -> list[str]:
            options = [*flags, *arithmetic, *variants[variant], *extra]
            folder = str(self._object_folder(variant, options))
            objects = self.compiler.object_filenames([source], output_dir=folder)
            if outdated(objects[0], source):
                self.compiler.compile(
                    [source],
                    output_dir=folder,
                    macros=[("FASTMEF_ISA", variant), *macros],
                    include_dirs=[str(CSRC)],
                    extra_postargs=options,
                )
            return objects

        # Sources compile in parallel; one after the other they take minutes.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [pool.submit(compile_one, v, s) for s in VARIANT_SOURCES for v in variants]
            ext.extra_objects += [object for job in jobs for object in job.result()]
        ext.depends += ext.extra_objects
        super().build_extension(ext)

    def _object_folder(self, kind: str, command: list[str]) -> Path:
        """Return a folder for objects of this command, so that no object of another is reused."""
        compilers = [os.environ.get(x, "") for x in ("CC", "CXX")]
        return Path(self.build_temp, f"{kind}-{zlib.crc32(repr([compilers, command]).encode()):x}")


def outdated(result: str, source: str) -> bool:
    """Return whether an object is missing or older than its source or any header."""
    return newer_group([source, *HEADERS], result)


def x86_variants() -> dict[str, list[str]]:
    """Return the flags of every instruction set that is listed in ``instruction_sets.h``.

    They do not depend on the building machine: one binary runs everywhere and selects a variant
    when it is loaded.
    """
    text = (CSRC / "cpu" / "runtime" / "instruction_sets.h").read_text().split("#else")[0]
    variants = {}
    for name, condition in re.findall(r"\bSET\((\w+), ([^;]*?), x\)", text):
        flags = [f"-m{feature}" for feature in re.findall(r'HAS\("(\w+)"\)', condition)]
        # By default GCC uses half of the register width.
        wide = ["-mprefer-vector-width=512"] if "-mavx512f" in flags else []
        variants[name] = [*flags, *wide]
    return variants


def find_nvcc() -> str:
    """Return the path of nvcc; raise an error if there is none, or if it is too old."""
    homes = [os.environ.get(x) for x in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    for found in (
        os.environ.get("CUDACXX"),
        *(shutil.which("nvcc", path=f"{x}/bin") for x in homes[:2] if x),
        shutil.which("nvcc"),
        shutil.which("nvcc", path=f"{homes[2]}/bin"),
    ):
        if not found:
            continue
        text = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"release (\d+)\.(\d+)", text)
        if version is None:
            raise RuntimeError(f"{found} --version names no release")
        if tuple(map(int, version.groups())) < OLDEST_NVCC:
            oldest = ".".join(map(str, OLDEST_NVCC))
            raise RuntimeError(f"{found} is {'.'.join(version.groups())}, older than {oldest}")
        return found
    raise RuntimeError("nvcc was not found")


def cuda_targets(nvcc: str) -> list[str]:
    """Return compute capabilities without the dot; "+PTX" adds code that later GPUs compile."""
    given = os.environ.get("FASTMEF_CUDA_ARCHS", "")
    if given:
        targets = re.split(r"[;,\s]+", given.strip().replace(".", ""))
        if any(not re.fullmatch(r"\d+[af]?(\+PTX)?", x) for x in targets):
            raise RuntimeError(f"FASTMEF_CUDA_ARCHS is {given!r}; write it like '80;90;90+PTX'")
        return targets
    text = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    known = [x for x in CUDA_ARCHS if f"compute_{x}" in text.split()]
    if not known:
        raise RuntimeError(f"{nvcc} --list-gpu-arch names none of {', '.join(CUDA_ARCHS)}")
    return [*known, f"{known[-1]}+PTX"]


def cuda_home(nvcc: str) -> Path | None:
    """Ask nvcc for its home, because it may be a script that calls the real nvcc elsewhere.

    Return None if headers and libraries are in the system's folders, as in Debian's package.
    """
    command = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    top = re.search(r"^#\$ TOP=(.+)$", text, re.MULTILINE)
    return Path(top.group(1).strip()).resolve() if top else None


def cuda_folder(home: Path, pattern: str, holding: str) -> str:
    """Return the folder with the file ``holding`` in ``home`` or in ``home/targets/<system>``."""
    for folder in sorted([*home.glob(pattern), *home.glob(f"targets/*/{pattern}")]):
        if (folder / holding).exists():
            return str(folder)
    raise RuntimeError(f"{holding} was not found below {home}")


def extensions() -> list[Extension]:
    """Return the extensions to build, as the environment variables and nvcc decide."""
    cpu, cuda = wanted("FASTMEF_CPU"), wanted("FASTMEF_CUDA")
    if cuda == "auto":
        cuda = cuda if sys.platform == "linux" and _has_nvcc() else "0"
    if cpu == cuda == "0":
        return []
    try:
        import pybind11
    except ImportError:
        if "1" in (cpu, cuda):
            raise
        print("fastmef: pybind11 is missing, the C++ kernels are not built", file=sys.stderr)
        return []
    found = []
    if cpu != "0":
        found.append(
            Extension(
                "fastmef._cpu",
                sources=COMMON_SOURCES,
                include_dirs=[str(CSRC), pybind11.get_include()],
                depends=[*HEADERS, *VARIANT_SOURCES],
                language="c++",
                optional=cpu != "1",
            )
        )
    if cuda != "0":
        found.append(
            Extension(
                "fastmef._cuda",
                sources=CUDA_BINDINGS,
                include_dirs=[str(CSRC), pybind11.get_include()],
                depends=[*HEADERS, *CUDA_SOURCES],
                language="c++",
                optional=cuda != "1",
            )
        )
    return found


def _has_nvcc() -> bool:
    try:
        find_nvcc()
    except (OSError, RuntimeError) as error:
        print(f"fastmef: the CUDA C++ kernels are not built ({error})", file=sys.stderr)
        return False
    return True


def packages() -> list[str]:
    """Return all packages. ``kernels`` is installed as ``fastmef.kernels``."""
    kernels = find_namespace_packages(include=["kernels*"], exclude=["*.__pycache__*"])
    return [*find_packages(include=["fastmef*"]), *(f"fastmef.{name}" for name in kernels)]


setup(packages=packages(), ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
