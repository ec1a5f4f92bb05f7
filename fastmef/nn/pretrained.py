"""Save and load weights: safetensors with the network's options and a checksum, no pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from fastmef.data.damage import Fault
from fastmef.data.files import atomic_write, display
from fastmef.data.reading import read_bytes
from fastmef.data.tensors import MAX_BYTES, check_fit, check_weights, pack, unpack
from fastmef.errors import InputError
from fastmef.nn.budget import ElementBudget

FORMAT = "fastmef.FusionNet/2"

_NEEDED = "a .safetensors file written by FusionNet.save"

Network = TypeVar("Network", bound=nn.Module)


def list_pretrained() -> list[str]:
    """Return the names of the bundled weights, for :meth:`FusionNet.from_pretrained`.

    Example:
        >>> list_pretrained()
        ['default', 'pairs', 'paper']
    """
    folder = resources.files("fastmef") / "weights"
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".safetensors") for name in names if ".safetensors" in name)


def save_network(
    network: nn.Module, config: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Write a network's weights and the options that build the network, atomically.

    Raises:
        InputError: the weights are not finite; the file could not be loaded.
        OutputError: see :func:`fastmef.data.files.atomic_write`.
    """
    tensors = network.state_dict()
    try:
        check_weights(tensors)
    except Fault as fault:
        raise InputError(f"cannot write {display(path)}: {fault}") from fault
    texts = {"format": FORMAT, "config": json.dumps(config)}
    atomic_write(path, pack(tensors, texts), force=True)


def load_network(name_or_path: str | os.PathLike[str], build: Callable[..., Network]) -> Network:
    """Return the network of a bundled or named file; see :meth:`FusionNet.from_pretrained`.

    Args:
        name_or_path: a name from :func:`list_pretrained`, or a path.
        build: a function that takes the options in the file and returns an untrained network.
    """
    path = _find(name_or_path)
    content = read_bytes(path, MAX_BYTES, _NEEDED)
    try:
        return _with_weights(content, build)
    except Fault as fault:
        raise InputError(f"{display(path)}: {fault}; needed: {_NEEDED}") from fault


def _with_weights(content: bytes, build: Callable[..., Network]) -> Network:
    """Return the network that the bytes of a file describe, with its weights, in eval mode."""
    tensors, texts = unpack(content)
    if texts.get("format") != FORMAT:
        raise Fault(f"holds no FusionNet: its format is {texts.get('format')!r}, not {FORMAT!r}")
    try:
        options = json.loads(texts["config"])
        with ElementBudget(sum(tensor.numel() for tensor in tensors.values())):
            network = build(**options)
    except (ValueError, TypeError, KeyError, RuntimeError, RecursionError) as error:
        if isinstance(error, Fault):
            raise
        raise Fault(f"declares no network that can be built ({type(error).__name__})") from error
    check_fit(tensors, network.state_dict())
    check_weights(tensors)
    network.load_state_dict(tensors)
    return network.eval()


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the path of bundled weights with this name, or else the path itself if it exists."""
    bundled = resources.files("fastmef") / "weights" / f"{os.fspath(name_or_path)}.safetensors"
    if os.fspath(name_or_path) in list_pretrained():
        return Path(str(bundled))
    path = Path(name_or_path)
    if not os.path.lexists(path):
        raise InputError(
            f"{display(path)}: no such weights; bundled are "
            f"{', '.join(list_pretrained()) or 'none'}, else give a .safetensors file"
        )
    return path
