"""Fuser: a model, loaded once, that fuses brackets of any length, size and depth."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.errors import InputError, is_out_of_memory
from fastmef.inference.arrays import ArraySink
from fastmef.inference.controls import Control, check_controls
from fastmef.inference.exact import fuse_exactly
from fastmef.inference.frames import Frames
from fastmef.inference.inputs import ImageLike, like_inputs, opened
from fastmef.inference.memory import available_memory, parse_memory, used_memory
from fastmef.inference.models import ready_model
from fastmef.inference.plan import Bracket, Plan, make_plan
from fastmef.inference.stream import Progress, fuse_streamed
from fastmef.nn.network import FusionNet


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


class Fuser:
    """Fuses brackets of photographs with one model.

    The weights are loaded once. Frames are read in strips of rows, twice: the first sweep reduces
    them to a small pyramid, the second blends the finest bands of detail. What a fusion takes is
    that pyramid and a few strips, so photographs can be larger than the memory.

    Args:
        model: see :func:`fastmef.fuse`.
        device: such as ``"cpu"`` or ``"cuda"``; ``None`` is the GPU if there is one, else the CPU.
        memory: the most bytes that the process may have while it fuses, a number or a text such as
            ``"2GB"``; ``None`` is what it has and half of what is free.

    Raises:
        InputError: no such model or device, or ``memory`` is no size.

    Example:
        >>> import numpy as np
        >>> from fastmef import FusionNet
        >>> fuser = Fuser(FusionNet("any", width=4), device="cpu")
        >>> dark = np.full((4, 6, 3), 20, np.uint8)
        >>> [fuser.fuse([dark, dark + step]).shape for step in (100, 180)]
        [(4, 6, 3), (4, 6, 3)]
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | FusionNet = "default",
        *,
        device: str | torch.device | None = None,
        memory: int | float | str | None = None,
    ) -> None:
        self._memory = None if memory is None else parse_memory(memory)
        self.network, self.device = ready_model(model, device)

    def fuse(self, images: Sequence[ImageLike], **options: Any) -> Any:
        """Return the fused image; see :func:`fastmef.fuse` for images and options."""
        return self.fuse_with_weights(images, **options)[0]

    def fuse_with_weights(
        self, images: Sequence[ImageLike], **options: Any
    ) -> tuple[Any, NDArray[np.float32]]:
        """Return the fused image and the weights; see :func:`fastmef.fuse_with_weights`."""
        with opened(images) as sources:
            first = sources[0]
            sink = ArraySink(first.height, first.width, first.channels, first.dtype)
            weights = self.stream(sources, sink, Control(**options))
        return like_inputs(sink, images), weights

    def plan(self, sources: Sequence[Any], masked: bool, sink_bytes: int = 0) -> Plan:
        """Return how sources are fused within the memory there is.

        Raises:
            InputError: they cannot be.
        """
        first = sources[0]
        dtype = np.dtype(first.dtype)
        bracket = Bracket(
            len(sources),
            first.height,
            first.width,
            first.channels,
            dtype.itemsize,
            dtype.kind == "f",
            masked,
            any(source.streams for source in sources),
            sum(source.resident_bytes for source in sources) + sink_bytes,
        )
        if self._memory is None:
            return make_plan(bracket, available_memory() // 2)
        return make_plan(bracket, self._memory - used_memory())

    def stream(
        self, sources: Sequence[Any], sink: Any, given: Control, progress: Progress = _silent
    ) -> NDArray[np.float32]:
        """Fuse ``sources`` into ``sink``; see :mod:`fastmef.data.sources` and ``sinks``.

        Args:
            progress: called with what is done, the rows that were done and all rows.

        Returns:
            The weights, ``(K, h, w)`` in the order of the sources.

        Raises:
            InputError: see :func:`fastmef.fuse`. The sink is neither committed nor aborted.
        """
        height, width = sources[0].height, sources[0].width
        check_controls(given, len(sources), (height, width))
        frames = Frames(sources, given.masks, self.device)
        plan = self.plan(sources, frames.masked, sink.resident_bytes)
        with torch.no_grad(), _memory_reported(height, width, self.device):
            if self.network.takes_any:
                return fuse_streamed(self.network, frames, plan, given, sink, progress)
            return fuse_exactly(self.network, frames, plan, given, sink, progress)


@contextlib.contextmanager
def _memory_reported(height: int, width: int, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"images of {width}×{height} pixels need more memory than there is on device"
            f" {str(device)!r}"
        ) from error
