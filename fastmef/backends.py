"""Which backends can be used here, and why the others cannot.

Each operation in :mod:`fastmef.ops` declares the dtypes and cases that its kernels handle, and runs
the first backend of :func:`usable_on` that handles the call. A new backend gets its name, its place
in that order, and the reasons why it may be missing in this file.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from types import ModuleType
from typing import Any

import torch

REFERENCE = "reference"
CPP = "cpp"
CUDA = "cuda"
TRITON = "triton"
ON_GPU = (CUDA, TRITON)

# Maps (backend, operation) to the error of a kernel that could not be started. That backend is not
# used again for that operation.
FAILED: dict[tuple[str, str], str] = {}

# The CUDA C++ kernels convert to bfloat16 with an instruction that older GPUs lack.
OLDEST_GPU = (8, 0)

# Triton's interpreter runs the GPU kernels on CPU tensors. It is slow and meant for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _load_cpu() -> tuple[ModuleType | None, str]:
    """Return the compiled module and an empty string, or ``None`` and why it cannot be used."""
    if os.environ.get("FASTMEF_CPU", "auto") == "0":
        return None, "switched off by FASTMEF_CPU=0"
    if INTERPRETED:
        return None, "switched off by TRITON_INTERPRET=1"
    try:
        module = importlib.import_module("fastmef._cpu")
    except ImportError as error:
        return None, f"not built, or not loadable here ({error})"
    wanted = os.environ.get("FASTMEF_CPU_ISA")
    if wanted and not module.use_isa(wanted):
        allowed = ", ".join(module.available_isas())
        return None, f"FASTMEF_CPU_ISA is {wanted!r}, usable here are {allowed}"
    return module, ""


def _load_cuda() -> tuple[ModuleType | None, str]:
    """Return the compiled module if there is one, and why its kernels cannot be used, or ""."""
    if os.environ.get("FASTMEF_CUDA", "auto") == "0":
        return None, "switched off by FASTMEF_CUDA=0"
    try:
        module = importlib.import_module("fastmef._cuda")
    except ImportError as error:
        return None, f"not built (nvcc 12.0 or newer builds them), or not loadable here ({error})"
    if torch.version.cuda is None:
        return module, f"built for {module.architectures}; this torch is not for CUDA"
    return module, ""


# The kernels take window taps as constant tuples, which older compilers cannot index.
OLDEST_TRITON = (3, 4)


def _triton_version() -> str:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # distributed under another name
        return str(importlib.import_module("triton").__version__)


def _why_no_triton() -> str:
    """Return why Triton's kernels cannot be used, or an empty string."""
    if os.environ.get("FASTMEF_TRITON", "auto") == "0":
        return "switched off by FASTMEF_TRITON=0"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (it is published for Linux only)"
    try:
        version = _triton_version()
    except ImportError as error:
        return f"triton cannot be imported ({error})"
    if tuple(int(x) for x in re.findall(r"\d+", version)[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"triton {version} is too old, {oldest} is needed (torch 2.8 brings it)"
    if importlib.util.find_spec("fastmef.kernels") is None:
        return "fastmef.kernels is not there: this is a checkout that was not installed"
    if INTERPRETED:
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch was built for the CPU only"
    # Triton builds its launchers at run time.
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    if not any(name and shutil.which(name) for name in compilers):
        return "no C compiler (cc, gcc or clang) for its launchers; CC names another"
    return ""


# Decided on import and not on first use, so that torch.compile sees constants. Loading does not
# touch a GPU; a tensor on a GPU shows that there is one.
CPU, _WHY_NO_CPU = _load_cpu()
CUDA_MODULE, WHY_NO_CUDA = _load_cuda()
WHY_NO_TRITON = _why_no_triton()


@functools.cache
def capability(gpu: int) -> tuple[int, int]:
    """Return the compute capability. PyTorch takes longer to look it up than to start a kernel."""
    return torch.cuda.get_device_capability(gpu)


def _gpu_is_new_enough(index: int | None) -> bool:
    return capability(torch.cuda.current_device() if index is None else index) >= OLDEST_GPU


# torch.compile takes the result as a constant. The decorator torch.compiler.assume_constant_result
# does the same, but imports torch._dynamo, which takes a second.
_gpu_is_new_enough._dynamo_marked_constant = True  # type: ignore[attr-defined]


def transforms_active() -> bool:
    """Return whether a transform of ``torch.func`` is active.

    While one is, values of tensors cannot be read, and kernels run under the rules of
    :mod:`fastmef.ops.common.transforms`.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def usable_on(device: torch.device) -> tuple[str, ...]:
    """Return the backends whose kernels run on a device, the preferred one first."""
    triton = () if WHY_NO_TRITON else (TRITON,)
    if device.type == "cuda":
        cuda = not WHY_NO_CUDA and _gpu_is_new_enough(device.index)
        return (CUDA, *triton) if cuda else triton
    if device.type == "cpu":
        return triton if INTERPRETED else () if CPU is None else (CPP,)
    return ()


def cpu_status() -> str:
    """Return what the C++ kernels run with, or why they cannot be used."""
    if CPU is None:
        return _WHY_NO_CPU
    sets = ", ".join(CPU.available_isas())
    return f"{CPU.active_isa()} of {sets}, threads from {CPU.thread_source()}"


def cuda_status() -> str:
    """Return what the CUDA C++ kernels were built for, or why they cannot be used."""
    if WHY_NO_CUDA or CUDA_MODULE is None:
        return WHY_NO_CUDA
    missing = "" if torch.cuda.is_available() else "; no GPU that torch can use"
    return f"built for {CUDA_MODULE.architectures}{missing}"


def triton_status() -> str:
    """Return Triton's version and what it runs on, or why it cannot be used."""
    if WHY_NO_TRITON:
        return WHY_NO_TRITON
    import triton

    if INTERPRETED:
        return f"{triton.__version__}, interpreted on the CPU (TRITON_INTERPRET=1)"
    return f"{triton.__version__}" if torch.cuda.is_available() else "no GPU that torch can use"


def show_config() -> None:
    """Print versions, devices, the backends of every operation, and why others are not used."""
    print(describe())


def _backends_of(operation: Any) -> str:
    """Return which tensors each backend handles for an operation, and which backends failed."""
    names = []
    if not WHY_NO_CUDA and CUDA in operation.support:
        names.append("CUDA C++ on CUDA tensors")
    if not WHY_NO_TRITON and TRITON in operation.support:
        names.append("Triton on the other CUDA tensors" if names else "Triton on CUDA tensors")
    if CPU is not None and CPP in operation.support:
        names.append("C++ on CPU tensors")
    used = ", ".join([*names, "reference elsewhere"]) if names else "reference (plain PyTorch)"
    failed = [f"; {x} failed: {why}" for (x, of), why in FAILED.items() if of == operation.name]
    return used + "".join(failed)


def describe() -> str:
    """Return the text that :func:`show_config` prints."""
    from fastmef import __version__, ops  # noqa: F401  # declares every operation
    from fastmef.ops.common.operation import OPERATIONS

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
    else:
        gpu = f"none (torch was built {'with' if torch.version.cuda else 'without'} CUDA)"
    width = max(map(len, OPERATIONS))
    lines = [
        f"fastmef {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}",
        f"system: {platform.platform()}",
        f"CPU: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"GPU: {gpu}",
        f"C++ kernels: {cpu_status()}",
        f"CUDA C++ kernels: {cuda_status()}",
        f"Triton kernels: {triton_status()}",
        "operations:",
        *(f"  {x:<{width}}  {_backends_of(of)}" for x, of in sorted(OPERATIONS.items())),
    ]
    return "\n".join(lines)
