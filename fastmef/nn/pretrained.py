"""Weights in files: safetensors with the network's configuration as metadata, never pickles."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from fastmef.data.files import atomic_write, display
from fastmef.errors import InputError

if TYPE_CHECKING:
    from fastmef.nn.network import FusionNet

FORMAT = "fastmef.FusionNet/1"


def list_pretrained() -> list[str]:
    """The names of the bundled weights, for :meth:`FusionNet.from_pretrained`."""
    folder = resources.files("fastmef") / "weights"
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".safetensors") for name in names if ".safetensors" in name)


def save_network(network: FusionNet, path: str | os.PathLike[str]) -> None:
    """Write a network's weights and configuration; an existing file is replaced in one step."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    metadata = {"format": FORMAT, "config": json.dumps(network.config)}
    atomic_write(path, serialize(tensors, metadata), force=True)


def load_network(name_or_path: str | os.PathLike[str]) -> FusionNet:
    """The network in a bundled or named file; see :meth:`FusionNet.from_pretrained`."""
    from fastmef.nn.network import FusionNet

    path = _find(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise InputError(
                f"{display(path)}: not the weights of a FusionNet (format {FORMAT!r} expected, "
                f"got {metadata.get('format')!r})"
            )
        network = FusionNet(**json.loads(metadata["config"]))
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{display(path)}: not a readable FusionNet weights file ({reason})"
        ) from error
    return network.eval()


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    bundled = resources.files("fastmef") / "weights" / f"{os.fspath(name_or_path)}.safetensors"
    if os.fspath(name_or_path) in list_pretrained():
        return Path(str(bundled))
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(
            f"{display(path)}: no such weights; bundled are "
            f"{', '.join(list_pretrained()) or 'none'}, else give a .safetensors file"
        )
    return path
