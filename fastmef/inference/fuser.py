"""Fuser: a model, loaded once, that fuses brackets of any length, size and depth."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.data.sinks import create_sink
from fastmef.data.sources import Source
from fastmef.errors import InputError, is_out_of_memory, shown
from fastmef.inference.arrays import ArraySink, ArraySource
from fastmef.inference.controls import Control, check_controls
from fastmef.inference.exact import fuse_exactly
from fastmef.inference.frames import Frames
from fastmef.inference.inputs import ImageLike, like_inputs, opened
from fastmef.inference.memory import parse_memory, usable_memory
from fastmef.inference.models import ready_model
from fastmef.inference.plan import Bracket, make_plan
from fastmef.inference.precision import precision_of
from fastmef.inference.stream import Progress, fuse_streamed
from fastmef.nn.network import FusionNet

# Dtype in which values are computed for an output depth. For "half" it is uint16, because float16
# has fewer levels.
_DEPTHS = {"16": np.uint16, "half": np.uint16, "float": np.float32}


def _silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


class Fuser:
    """Fuse brackets of photographs with one model.

    The weights are loaded once. Frames are read in strips of rows, twice: the first sweep reduces
    them to a small pyramid, the second blends the finest bands of detail. Only that pyramid and a
    few strips are in memory, so photographs can be larger than the memory.

    Args:
        model: see :func:`fastmef.fuse`.
        mode: ``"multiscale"`` for models that take any number of images, ``"exact"`` (the plain
            weighted sum at full size) for models of a fixed number; ``None`` is the model's mode.
        device: for example ``"cpu"`` or ``"cuda"``; ``None`` is the GPU if there is one, else the
            CPU.
        memory: limit for the memory of the process in bytes while it fuses, a number or a text such
            as ``"2GB"``; ``None`` allows what the process has already and half of what is free.

    Attributes:
        mode: ``"multiscale"`` or ``"exact"``.
        precision: the dtype of the network's convolutions, in the last fusion: ``"float32"`` or
            ``"bfloat16"``. In the exact mode bfloat16 is used for images of 3 MP and more if the
            device has instructions for it, a probe is at least a quarter faster with them, and the
            fused base differs by at most a quarter of a level of 255 on average and by at most two
            levels at any pixel.

    Raises:
        InputError: there is no such model or device, or ``memory`` is not a size.

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
        mode: str | None = None,
        device: str | torch.device | None = None,
        memory: int | float | str | None = None,
    ) -> None:
        self._memory = None if memory is None else parse_memory(memory)
        self.network, self.device = ready_model(model, device)
        self.mode = "multiscale" if self.network.takes_any else "exact"
        self.precision = precision_of(self.network)
        if mode not in (None, self.mode):
            raise InputError(f"mode must be {self.mode!r} for this model, got {shown(mode)}")

    def fuse(self, images: Sequence[ImageLike], **options: Any) -> Any:
        """Return the fused image; see :func:`fastmef.fuse` for images and options."""
        return self._fuse(images, Control(**options), want_weights=False)[0]

    def fuse_with_weights(
        self, images: Sequence[ImageLike], **options: Any
    ) -> tuple[Any, NDArray[np.float32]]:
        """Return the fused image and the weights.

        See :func:`fastmef.inference.fuse.fuse_with_weights`.
        """
        return self._fuse(images, Control(**options), want_weights=True)

    def _fuse(
        self, images: Sequence[ImageLike], given: Control, want_weights: bool
    ) -> tuple[Any, NDArray[np.float32]]:
        with opened(images) as sources:
            first = sources[0]
            check_controls(given, len(sources), (first.height, first.width))
            sink = ArraySink(first.height, first.width, first.channels, first.dtype)
            frames = Frames(sources, given.masks, self.device)
            weights = self._run(frames, sink, given, _silent, want_weights)
        return like_inputs(sink, images), weights

    def fuse_into(
        self,
        output: str | os.PathLike[str],
        images: Sequence[ImageLike],
        *,
        depth: str | None = None,
        quality: int | None = None,
        compression: str | None = None,
        tile: int | None = None,
        force: bool = False,
        progress: Progress = _silent,
        want_weights: bool = True,
        **options: Any,
    ) -> NDArray[np.float32]:
        """Fuse images into a file, which appears complete or not at all.

        If the file formats can be read and written in strips of rows, as TIFF and PNG can, neither
        the photographs nor the result are in memory as a whole.

        Args:
            output: path of the file. For it, ``quality``, ``compression`` and ``tile`` see
                :func:`fastmef.data.sinks.create_sink`.
            images: see :func:`fastmef.fuse`. The result gets the metadata of the first file.
            depth: ``"8"``, ``"16"``, ``"half"`` or ``"float"``; ``None`` keeps that of the images.
            force: replace an existing file.
            progress: called with the name of the current phase, the amount done and the total.
            want_weights: return the weights; in the exact mode they are as large as the images.
            options: see :func:`fastmef.fuse`.

        Returns:
            The weights, ``(K, h, w)`` in the order of the images.

        Raises:
            InputError: see :func:`fastmef.fuse`.
            OutputError: see :func:`fastmef.data.sinks.create_sink`.
        """
        with opened(images) as sources:
            first, given = sources[0], Control(**options)
            check_controls(given, len(sources), (first.height, first.width))
            frames = Frames(sources, given.masks, self.device, _working(first, depth))
            sink = create_sink(
                output,
                first.height,
                first.width,
                first.channels,
                frames.stored,
                frames.has_alpha,
                first.metadata,
                quality=quality,
                compression=compression,
                tile=tile,
                depth=depth,
                force=force,
            )
            try:
                weights = self._run(frames, sink, given, progress, want_weights)
                progress("finishing", 0, 0)
                for source in sources:  # frees memory for the encoder
                    source.close()
                sink.commit()
            finally:
                sink.abort()
        return weights

    def stream(
        self, sources: Sequence[Any], sink: Any, given: Control, progress: Progress = _silent
    ) -> NDArray[np.float32]:
        """Fuse ``sources`` into ``sink``.

        See :mod:`fastmef.data.sources` and :mod:`fastmef.data.sinks`.

        Returns:
            The weights, ``(K, h, w)`` in the order of the sources.

        Raises:
            InputError: see :func:`fastmef.fuse`. The sink is neither committed nor aborted.
        """
        check_controls(given, len(sources), (sources[0].height, sources[0].width))
        return self._run(Frames(sources, given.masks, self.device), sink, given, progress)

    def _run(
        self,
        frames: Frames,
        sink: Any,
        given: Control,
        progress: Progress,
        want_weights: bool = True,
    ) -> NDArray[np.float32]:
        bracket = Bracket(
            len(frames),
            frames.height,
            frames.width,
            frames.channels,
            frames.stored.itemsize,
            frames.stored.kind == "f",
            frames.masked,
            any(source.streams for source in frames.sources),
            all(isinstance(source, ArraySource) for source in frames.sources),
            sum(source.resident_bytes for source in frames.sources) + sink.resident_bytes,
        )
        memory = usable_memory(self._memory)
        with torch.no_grad(), _memory_reported(frames.height, frames.width, self.device):
            if self.mode == "exact":
                weights, self.precision = fuse_exactly(
                    self.network, frames, bracket, memory, given, sink, progress, want_weights
                )
                return weights
            plan = make_plan(bracket, memory)
            frames.decode()
            return fuse_streamed(self.network, frames, plan, given, sink, progress)


def _working(source: Source, depth: str | None) -> np.dtype[Any]:
    """Return the dtype to compute in: the sources', or the output file's if it has more levels."""
    stored, asked = np.dtype(source.dtype), np.dtype(_DEPTHS.get(depth or "8", np.uint8))
    return asked if asked.itemsize > stored.itemsize else stored


@contextlib.contextmanager
def _memory_reported(height: int, width: int, device: torch.device) -> Iterator[None]:
    """Turn errors about exhausted memory into an :class:`InputError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"images of {width}×{height} pixels need more memory than there is on device"
            f" {str(device)!r}"
        ) from error
