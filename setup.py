"""Everything static stands in pyproject.toml; optional compiled extensions are declared here.

FASTMEF_CPU = auto (default: a failed build says so in one line and installation goes on),
0 (do not build) or 1 (a failed build is an error).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What each instruction-set variant is compiled with. Never the building machine's own set: one
# binary runs everywhere and picks a variant when it is loaded.
X86_VARIANTS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": [
        "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma",
        "-mprefer-vector-width=512",
    ],
}  # fmt: skip
VARIANT_SOURCES = [
    "csrc/cpu/filters.cpp",
    "csrc/cpu/fuse.cpp",
    "csrc/cpu/loss.cpp",
    "csrc/cpu/ssim.cpp",
    "csrc/cpu/variant.cpp",
]
COMMON_SOURCES = ["csrc/cpu/isa.cpp", "csrc/cpu/module.cpp", "csrc/cpu/parallel.cpp"]
HEADERS = sorted(str(path) for path in Path("csrc").glob("*/*.h"))


def wanted(variable: str) -> str:
    value = os.environ.get(variable, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{variable} is {value!r}; allowed are auto, 0 and 1")
    return value


class BuildExtensions(build_ext):
    """Compiles some sources once per instruction set; an optional extension may fail."""

    def build_extension(self, ext: Extension) -> None:
        try:
            self._build_cpu(ext)
        except Exception as error:
            if wanted("FASTMEF_CPU") == "1":
                raise
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
            print(
                f"fastmef: the C++ kernels were not built, PyTorch will serve instead ({reason})",
                file=sys.stderr,
            )

    def _build_cpu(self, ext: Extension) -> None:
        unix = self.compiler.compiler_type == "unix"
        x86 = unix and platform.machine().lower() in ("x86_64", "amd64")
        variants = X86_VARIANTS if x86 else {"baseline": []}
        flags = ["-O3", "-std=c++17", "-fvisibility=hidden"] if unix else ["/O2", "/std:c++17"]
        # Without these, loops with a square root or a selection do not vectorise.
        arithmetic = ["-fno-math-errno", "-fno-trapping-math"] if unix else []
        extra = os.environ.get("FASTMEF_CPU_FLAGS", "").split()
        if x86:
            ext.define_macros.append(("FASTMEF_X86_VARIANTS", "1"))
        ext.extra_compile_args = [*flags, *extra]
        ext.extra_link_args = extra
        ext.extra_objects = []
        for name, machine in variants.items():
            ext.extra_objects += self.compiler.compile(
                VARIANT_SOURCES,
                output_dir=os.path.join(self.build_temp, name),
                macros=[("FASTMEF_ISA", name)],
                extra_postargs=[*flags, *arithmetic, *machine, *extra],
                depends=HEADERS,
            )
        super().build_extension(ext)


def extensions() -> list[Extension]:
    if wanted("FASTMEF_CPU") == "0":
        return []
    try:
        import pybind11
    except ImportError:
        if wanted("FASTMEF_CPU") == "1":
            raise
        print("fastmef: pybind11 is missing, the C++ kernels are not built", file=sys.stderr)
        return []
    return [
        Extension(
            "fastmef._cpu",
            sources=COMMON_SOURCES,
            include_dirs=[pybind11.get_include()],
            depends=[*HEADERS, *VARIANT_SOURCES],
            language="c++",
            optional=wanted("FASTMEF_CPU") != "1",
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
