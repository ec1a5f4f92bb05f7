"""Unsupervised deep multi-exposure fusion with fused kernels.

The public names are loaded on first use, so that importing the package is cheap and touches no GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmef import functional, metrics, nn, reference
    from fastmef.backends import show_config
    from fastmef.errors import (
        DivergenceError,
        FastmefError,
        InputError,
        MissingExtraError,
        OutputError,
    )
    from fastmef.inference.fuse import fuse
    from fastmef.inference.fuser import Fuser
    from fastmef.nn.losses import WeightedSSIMLoss
    from fastmef.nn.network import FusionNet, FusionOutput
    from fastmef.nn.pretrained import list_pretrained
    from fastmef.training.graph import warmup

__version__ = "0.1.0"

_HOME = {
    "Fuser": "fastmef.inference.fuser",
    "FusionNet": "fastmef.nn.network",
    "FusionOutput": "fastmef.nn.network",
    "WeightedSSIMLoss": "fastmef.nn.losses",
    "list_pretrained": "fastmef.nn.pretrained",
    "fuse": "fastmef.inference.fuse",
    "show_config": "fastmef.backends",
    "warmup": "fastmef.training.graph",
    "DivergenceError": "fastmef.errors",
    "FastmefError": "fastmef.errors",
    "InputError": "fastmef.errors",
    "MissingExtraError": "fastmef.errors",
    "OutputError": "fastmef.errors",
}
_SUBMODULES = {"functional", "metrics", "nn", "reference"}

__all__ = [
    "DivergenceError",
    "FastmefError",
    "Fuser",
    "FusionNet",
    "FusionOutput",
    "InputError",
    "MissingExtraError",
    "OutputError",
    "WeightedSSIMLoss",
    "functional",
    "fuse",
    "list_pretrained",
    "metrics",
    "nn",
    "reference",
    "show_config",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"fastmef.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fastmef' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
