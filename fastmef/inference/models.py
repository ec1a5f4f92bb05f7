"""Which network fuses: a bundled name, a file or a network, loaded once and made ready."""

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

_BFLOAT16_UNITS = ("avx512_bf16", "amx_tile")  # of x86 processors


def ready_model(
    model: str | os.PathLike[str] | FusionNet, device: str | torch.device | None
) -> tuple[FusionNet, torch.device]:
    """Return a copy of the model for inference, and the device it is on.

    Models given by name or path are kept, so that the next call finds them ready; a file that has
    changed is read again.

    Args:
        model: a name from :func:`fastmef.list_pretrained`, a ``.safetensors`` file, or a network,
            which stays as it is.
        device: ``None`` is the GPU if there is one, else the CPU.

    Raises:
        InputError: no such model, weights that are not finite, or no such device.
    """
    place = _device(device)
    if isinstance(model, FusionNet):
        return _prepared(model, place), place
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(f"model must be a name, a path or a FusionNet, got {type(model).__name__}")
    name = os.fspath(model)
    return _loaded(name, _modified(name), place), place


@functools.lru_cache(maxsize=4)
def _loaded(name: str, modified: int | None, device: torch.device) -> FusionNet:
    return _prepared(FusionNet.from_pretrained(name), device)


def _modified(name: str) -> int | None:
    try:
        return Path(name).stat().st_mtime_ns
    except (OSError, ValueError):
        return None  # a bundled name; a wrong path is reported by the loader


def _prepared(network: FusionNet, device: torch.device) -> FusionNet:
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

    This asks for the instructions and times nothing, so that a machine always gives one result.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in _BFLOAT16_UNITS)
    return device.type == "cpu" and any(ask is not None and ask() for ask in asked)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"device {str(device)!r} is not available here; 'cpu' always is"
        ) from error
    return place
