"""Which backends are there, which one serves each operation, and why not the others.

The choice is made here and nowhere else: :func:`choose` decides by device and dtype alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from types import ModuleType

import torch
from torch import Tensor

REFERENCE = "reference"
CPP = "cpp"
CUDA = "cuda"
TRITON = "triton"

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_STORED = (torch.uint8, torch.uint16, *_FLOATS)
_SINGLE_FLOATS = _FLOATS[:-1]

OPERATIONS = (
    "exposure_pyramid",
    "fusion_loss",
    "gamma_weights",
    "guided_upsample_fuse",
    "local_variance",
    "mef_ssim",
    "multiscale_fuse",
    "norm_act",
    "sobel_gradient",
    "softmax_fuse",
    "ssim",
    "weighted_ssim_loss",
)
# The dtypes that each backend's kernels read. float64 on a GPU is for the reference.
SERVED: dict[str, dict[str, tuple[torch.dtype, ...]]] = {
    CPP: {
        "exposure_pyramid": _STORED,
        "fusion_loss": _FLOATS,
        "gamma_weights": _FLOATS,
        "local_variance": _FLOATS,
        "mef_ssim": _FLOATS,
        "multiscale_fuse": _STORED,
        "sobel_gradient": _FLOATS,
        "softmax_fuse": _STORED,
        "ssim": _FLOATS,
        "weighted_ssim_loss": _FLOATS,
    },
    CUDA: {
        "fusion_loss": _FLOATS[:-1],
        "guided_upsample_fuse": tuple(x for x in _STORED if x != torch.float64),
        "softmax_fuse": tuple(x for x in _STORED if x != torch.float64),
        "weighted_ssim_loss": _FLOATS[:-1],
    },
    TRITON: {
        "exposure_pyramid": tuple(x for x in _STORED if x != torch.float64),
        "fusion_loss": _SINGLE_FLOATS,
        "gamma_weights": _SINGLE_FLOATS,
        "guided_upsample_fuse": tuple(x for x in _STORED if x != torch.float64),
        "local_variance": _SINGLE_FLOATS,
        "mef_ssim": (torch.float32,),
        "multiscale_fuse": tuple(x for x in _STORED if x != torch.float64),
        "norm_act": _SINGLE_FLOATS,
        "sobel_gradient": _SINGLE_FLOATS,
        "softmax_fuse": tuple(x for x in _STORED if x != torch.float64),
        "ssim": _SINGLE_FLOATS,
        "weighted_ssim_loss": _SINGLE_FLOATS,
    },
}

# Triton's interpreter runs the GPU kernels on CPU tensors, slowly: for tests without a GPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _load_cpu() -> tuple[ModuleType | None, str]:
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


# Decided once, here, and not on first use: torch.compile then sees constants. Neither touches a
# GPU: tensors on one prove that it is there.
CPU, _WHY_NO_CPU = _load_cpu()
CUDA_MODULE, WHY_NO_CUDA = _load_cuda()
WHY_NO_TRITON = _why_no_triton()


def choose(operation: str, *tensors: Tensor | None, cuda: bool = True) -> str:
    """The backend that serves ``operation`` for these tensors: all on one device.

    ``cuda=False``: the case is none of those that the CUDA C++ kernels were written for.
    """
    given = [x for x in tensors if x is not None]
    devices = {x.device.type for x in given}
    if devices == {"cuda"} and cuda and not WHY_NO_CUDA and _reads(CUDA, operation, given):
        return CUDA
    if devices == {"cuda"} or (INTERPRETED and devices == {"cpu"}):
        backend, usable = TRITON, not WHY_NO_TRITON
    elif devices == {"cpu"}:
        backend, usable = CPP, CPU is not None
    else:
        return REFERENCE
    return backend if usable and _reads(backend, operation, given) else REFERENCE


def _reads(backend: str, operation: str, tensors: list[Tensor]) -> bool:
    dtypes = SERVED[backend].get(operation, ())
    return all(x.dtype in dtypes for x in tensors)


def cpu_status() -> str:
    """What the C++ kernels run with, or why they cannot serve."""
    if CPU is None:
        return _WHY_NO_CPU
    sets = ", ".join(CPU.available_isas())
    return f"{CPU.active_isa()} of {sets}, threads from {CPU.thread_source()}"


def cuda_status() -> str:
    """What the CUDA C++ kernels were built for, or why they cannot serve."""
    if WHY_NO_CUDA or CUDA_MODULE is None:
        return WHY_NO_CUDA
    missing = "" if torch.cuda.is_available() else "; no GPU that torch can use"
    return f"built for {CUDA_MODULE.architectures}{missing}"


def triton_status() -> str:
    """Triton's version and what it runs on, or why it cannot serve."""
    if WHY_NO_TRITON:
        return WHY_NO_TRITON
    import triton

    if INTERPRETED:
        return f"{triton.__version__}, interpreted on the CPU (TRITON_INTERPRET=1)"
    return f"{triton.__version__}" if torch.cuda.is_available() else "no GPU that torch can use"


def show_config() -> None:
    """Print versions, devices, and which backend serves every operation and why."""
    print(describe())


def _served_by(operation: str) -> str:
    names = []
    if not WHY_NO_CUDA and operation in SERVED[CUDA]:
        names.append("CUDA C++ on CUDA tensors")
    if not WHY_NO_TRITON and operation in SERVED[TRITON]:
        names.append("Triton on the other CUDA tensors" if names else "Triton on CUDA tensors")
    if CPU is not None and operation in SERVED[CPP]:
        names.append("C++ on CPU tensors")
    return ", ".join([*names, "reference elsewhere"]) if names else "reference (plain PyTorch)"


def describe() -> str:
    """The text that :func:`show_config` prints."""
    from fastmef import __version__

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
        *(f"  {name:<{width}}  {_served_by(name)}" for name in OPERATIONS),
    ]
    return "\n".join(lines)
