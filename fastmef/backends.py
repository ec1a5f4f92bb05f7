"""Which backends are there, which one serves each operation, and why not the others."""

from __future__ import annotations

import functools
import importlib
import os
import platform
import sys
from types import ModuleType

import torch
from torch import Tensor

OPERATIONS = (
    "fusion_loss",
    "gamma_weights",
    "local_variance",
    "mef_ssim",
    "sobel_gradient",
    "softmax_fuse",
    "ssim",
    "weighted_ssim_loss",
)
CPU_KERNELS = frozenset({"fusion_loss", "weighted_ssim_loss"})


@functools.lru_cache(maxsize=1)
def _load_cpu() -> tuple[ModuleType | None, str]:
    if os.environ.get("FASTMEF_CPU", "auto") == "0":
        return None, "switched off by FASTMEF_CPU=0"
    try:
        module = importlib.import_module("fastmef._cpu")
    except ImportError as error:
        return None, f"not built, or not loadable here ({error})"
    wanted = os.environ.get("FASTMEF_CPU_ISA")
    if wanted and not module.use_isa(wanted):
        allowed = ", ".join(module.available_isas())
        return None, f"FASTMEF_CPU_ISA is {wanted!r}, usable here are {allowed}"
    return module, f"{module.active_isa()} of {', '.join(module.available_isas())}"


def cpu_kernels() -> ModuleType | None:
    """The compiled module ``fastmef._cpu``, or None where it cannot serve."""
    return _load_cpu()[0]


def cpu_status() -> str:
    """The instruction set the compiled module runs with, or why it cannot serve."""
    return _load_cpu()[1]


def cpu_serves(*tensors: Tensor | None) -> bool:
    """Whether the C++ kernels can take these tensors: all on the CPU, float32 or float64."""
    if cpu_kernels() is None:
        return False
    return all(
        x is None or (x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64))
        for x in tensors
    )


def show_config() -> None:
    """Print versions, devices, and which backend serves every operation and why."""
    print(describe())


def describe() -> str:
    """The text that :func:`show_config` prints."""
    from fastmef import __version__

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
    else:
        gpu = f"none (torch was built {'with' if torch.version.cuda else 'without'} CUDA)"
    module = cpu_kernels()
    threads = "" if module is None else f", threads from {module.thread_source()}"
    lines = [
        f"fastmef {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}",
        f"system: {platform.platform()}",
        f"CPU: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"GPU: {gpu}",
        f"C++ kernels: {cpu_status()}{threads}",
        "operations:",
    ]
    width = max(map(len, OPERATIONS))
    for name in OPERATIONS:
        fast = module is not None and name in CPU_KERNELS
        backend = "C++ on the CPU, reference elsewhere" if fast else "reference (plain PyTorch)"
        lines.append(f"  {name:<{width}}  {backend}")
    return "\n".join(lines)
