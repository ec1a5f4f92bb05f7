"""Load the network of a bundled name or a file once, and prepare it for inference."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

from fastmef.data.damage import Fault
from fastmef.data.tensors import check_weights
from fastmef.errors import InputError
from fastmef.inference.folding import fold_batchnorm
from fastmef.nn.network import FusionNet

_BFLOAT16_UNITS = ("avx512_bf16", "amx_tile")  # instructions of x86 processors


def ready_model(
    model: str | os.PathLike[str] | FusionNet, device: str | torch.device | None
) -> tuple[FusionNet, torch.device]:
    """Return a copy of the model for inference, and the device it is on.

    Models given by name or path are cached; a file that has changed is read again.

    Args:
        model: a name from :func:`fastmef.list_pretrained`, a ``.safetensors`` file, or a network,
            which is not changed.
        device: ``None`` is the GPU if there is one, else the CPU.

    Raises:
        InputError: there is no such model or device, or its weights are not finite.
    """
    found = _available_device(device)
    if isinstance(model, FusionNet):
        return _prepared(model, found), found
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(f"model must be a name, a path or a FusionNet, got {type(model).__name__}")
    name = os.fspath(model)
    return _loaded(name, _modified(name), found), found


@functools.lru_cache(maxsize=4)
def _loaded(name: str, modified: int | None, device: torch.device) -> FusionNet:
    """Load a model. ``modified`` is part of the key of the cache."""
    return _prepared(FusionNet.from_pretrained(name), device)


def _modified(name: str) -> int | None:
    """Return the time of the last change of a file in nanoseconds, ``None`` if there is no file."""
    try:
        return Path(name).stat().st_mtime_ns
    except (OSError, ValueError):
        return None  # a bundled name; a wrong path is reported by the loader


def _prepared(network: FusionNet, device: torch.device) -> FusionNet:
    """Return a folded copy of the network on the device, in its fastest dtype and layout."""
    try:
        check_weights(network.state_dict())
    except Fault as fault:
        raise InputError(f"the network cannot be used: {fault}") from fault
    folded = fold_batchnorm(network).to(device=device, dtype=torch.float32)
    if network.takes_any and has_bfloat16(device):
        folded.body.to(torch.bfloat16)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes convolutions in bfloat16.

    It asks for the instructions and measures no time, so a machine always gives the same answer.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in _BFLOAT16_UNITS)
    return device.type == "cpu" and any(ask is not None and ask() for ask in asked)


def _available_device(device: str | torch.device | None) -> torch.device:
    """Return the device, after a tensor could be created there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device {str(device)!r} is not available here; 'cpu' always is"
        ) from error
    return found
