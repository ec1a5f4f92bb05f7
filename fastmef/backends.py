"""Which backends are there, which one serves each operation, and why not the others."""

from __future__ import annotations

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
CPU_KERNELS = frozenset({"fusion_loss", "softmax_fuse", "weighted_ssim_loss"})


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
    return module, ""


# Loaded once, here, and not on first use: torch.compile then sees a constant.
CPU, _WHY_NO_CPU = _load_cpu()


def cpu_serves(
    *tensors: Tensor | None,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
) -> bool:
    """Whether the C++ kernels can take these tensors."""
    if CPU is None:
        return False
    return all(x is None or (x.device.type == "cpu" and x.dtype in dtypes) for x in tensors)


def cpu_status() -> str:
    """What the C++ kernels run with, or why they cannot serve."""
    if CPU is None:
        return _WHY_NO_CPU
    sets = ", ".join(CPU.available_isas())
    return f"{CPU.active_isa()} of {sets}, threads from {CPU.thread_source()}"


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
    lines = [
        f"fastmef {__version__}, Python {sys.version.split()[0]}, torch {torch.__version__}",
        f"system: {platform.platform()}",
        f"CPU: {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        f"GPU: {gpu}",
        f"C++ kernels: {cpu_status()}",
        "operations:",
    ]
    width = max(map(len, OPERATIONS))
    for name in OPERATIONS:
        fast = CPU is not None and name in CPU_KERNELS
        backend = "C++ on the CPU, reference elsewhere" if fast else "reference (plain PyTorch)"
        lines.append(f"  {name:<{width}}  {backend}")
    return "\n".join(lines)
