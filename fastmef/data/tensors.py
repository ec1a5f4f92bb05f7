"""Store tensors and texts in a safetensors file with a checksum over every byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fastmef.data.damage import Fault, damaged

MAX_BYTES = 16 << 30
LARGEST_WEIGHT = 1e6  # trained networks stay below 1e3

# The checksum is the first value of the header, so its offset is fixed. It is computed with zeros
# at that offset.
_BEFORE = b'{"__metadata__":{"sha256":"'
_START = 8 + len(_BEFORE)
_END = _START + 64


def pack(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> bytearray:
    """Return the content of a file. The same tensors and texts always give the same bytes."""
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain = save(dense)
    size = int.from_bytes(plain[:8], "little")
    entries = json.loads(plain[8 : 8 + size])
    header = {"__metadata__": {"sha256": "0" * 64, **dict(sorted(texts.items()))}}
    header |= dict(sorted(entries.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content = bytearray(len(text).to_bytes(8, "little") + text + plain[8 + size :])
    content[_START:_END] = _checksum(content)
    return content


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and texts of a file's content, the inverse of :func:`pack`.

    Raises:
        Fault: the content was not made by :func:`pack`, or has changed since.
    """
    if content[8:_START] != _BEFORE:
        raise Fault("damaged, or not written by this version of fastmef: it has no checksum")
    if content[_START:_END] != _checksum(bytearray(content)):
        raise damaged("its checksum is wrong")
    try:
        size = int.from_bytes(content[:8], "little")
        texts = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged("its header cannot be read") from error
    del texts["sha256"]
    return tensors, texts


def check_weights(tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are finite and not larger than those of a trained network.

    Raises:
        Fault: they are not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = (float(value) for value in torch.aminmax(tensor.detach()))
            if not (low >= -LARGEST_WEIGHT and high <= LARGEST_WEIGHT):
                found = "NaN" if low != low else f"values from {low:.4g} to {high:.4g}"
                raise Fault(
                    f"{name} holds {found}; the weights of a network must be finite and at most"
                    f" {LARGEST_WEIGHT:.0e}"
                )


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that tensors have the names, shapes and kinds of dtype of a network's tensors.

    Raises:
        Fault: they do not.
    """
    if tensors.keys() != expected.keys():
        name = min(tensors.keys() ^ expected.keys())
        raise Fault(f"{name} is {'missing' if name in expected else 'not a tensor of its network'}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise Fault(f"{name} has shape {tuple(tensor.shape)}, not {tuple(wanted.shape)}")
        if tensor.is_floating_point() != wanted.is_floating_point() or tensor.is_complex():
            raise Fault(f"{name} has dtype {tensor.dtype}, not {wanted.dtype}")


def _checksum(content: bytearray) -> bytes:
    """Overwrite the checksum with zeros and return the hash of the content."""
    content[_START:_END] = b"0" * 64
    return hashlib.sha256(content).hexdigest().encode()
