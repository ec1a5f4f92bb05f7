"""Which backends can serve here, and why the others cannot."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


@functools.lru_cache(maxsize=1)
def _load_cpu() -> tuple[ModuleType | None, str]:
    if os.environ.get("FASTMEF_CPU", "auto") == "0":
        return None, "switched off by FASTMEF_CPU=0"
    try:
        module = importlib.import_module("fastmef._cpu")
    except ImportError as error:
        return None, f"not built or not loadable ({error})"
    wanted = os.environ.get("FASTMEF_CPU_ISA")
    if wanted and not module.use_isa(wanted):
        allowed = ", ".join(module.available_isas())
        return None, f"FASTMEF_CPU_ISA is {wanted!r}; usable here are {allowed}"
    return module, f"{module.active_isa()} instructions"


def cpu_kernels() -> ModuleType | None:
    """The compiled module ``fastmef._cpu``, or None where it cannot serve."""
    return _load_cpu()[0]


def cpu_status() -> str:
    """What the compiled module runs with, or why it cannot serve."""
    return _load_cpu()[1]


def cpu_serves(*tensors: Tensor | None) -> bool:
    """Whether the C++ kernels can take these tensors: all on the CPU, float32 or float64."""
    return (
        all(
            x is None or (x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64))
            for x in tensors
        )
        and cpu_kernels() is not None
    )


def show_config() -> dict[str, Any]:
    """Says which backend serves which operation, and why the others do not.

    Returns:
        ``{"cpp": (available, reason), "ops": {name: backend}}``; also printed.
    """
    module, reason = _load_cpu()
    served = ("weighted_ssim_loss", "fusion_loss") if module else ()
    names = ("weighted_ssim_loss", "fusion_loss", "softmax_fuse", "local_variance",
             "sobel_gradient", "gamma_weights", "ssim", "mef_ssim")  # fmt: skip
    config: dict[str, Any] = {
        "cpp": (module is not None, reason),
        "threads": f"{torch.get_num_threads()} ({module.thread_source()})" if module else "",
        "ops": {name: "cpp" if name in served else "reference" for name in names},
    }
    print(f"cpp: {'available' if module else 'unavailable'}, {reason}")
    if module:
        print(f"threads: {config['threads']}")
    for name, backend in config["ops"].items():
        print(f"{name}: {backend} on the CPU, reference elsewhere")
    return config
