"""Sort frames from dark to bright, independently of the order in which they are given."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
from torch import Tensor

from fastmef.inference.frames import Frames

_ROWS = 256


def dark_to_bright(frames: Frames, base: Tensor) -> list[list[int]]:
    """Return the indices of the frames from dark to bright; copies of a frame form one group.

    Frames whose bases are equal are read once more and compared at full size.

    Args:
        base: ``(1, K, C, h, w)``, in the order of ``frames``.
    """
    planes = [np.ascontiguousarray(plane) for plane in base[0].cpu().numpy()]
    keys = [(float(plane.mean()), plane.tobytes()) for plane in planes]

    def key(k: int) -> tuple[float, bytes, bytes]:
        tied = keys.count(keys[k]) > 1
        return *keys[k], _digest(frames, k) if tied else b""

    sorted_by = {k: key(k) for k in range(len(frames))}
    order = sorted(sorted_by, key=sorted_by.__getitem__)
    return [list(group) for _, group in itertools.groupby(order, sorted_by.__getitem__)]


def _digest(frames: Frames, k: int) -> bytes:
    """Return a hash of the pixels of a frame and of its mask."""
    digest = hashlib.blake2b()
    for begin in range(0, frames.height, _ROWS):
        window, valid, _ = frames.window([k], begin, min(begin + _ROWS, frames.height))
        digest.update(window[0, 0].permute(1, 2, 0).contiguous().cpu().numpy().data)
        if valid is not None:
            digest.update(valid.cpu().numpy().data)
    return digest.digest()
