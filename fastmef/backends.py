"""Which backends are there, which one serves each operation, and why not the others."""

from __future__ import annotations

import platform
import sys

import torch

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
        "operations:",
    ]
    width = max(map(len, OPERATIONS))
    lines += [f"  {name:<{width}}  reference (plain PyTorch)" for name in OPERATIONS]
    return "\n".join(lines)
