"""The common part of all image writers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmef.data.depth import convert_depth
from fastmef.data.files import AtomicFile, display
from fastmef.data.metadata import Metadata
from fastmef.errors import InputError


@dataclass(frozen=True)
class Picture:
    """The properties of an image that is to be written."""

    path: str | os.PathLike[str]
    force: bool
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    """Dtype of the rows that are passed."""
    stored: np.dtype[Any]
    """Dtype of the samples in the file."""
    alpha: bool
    metadata: Metadata

    @property
    def samples(self) -> int:
        """Return the number of channels of the file, including alpha."""
        return self.channels + self.alpha

    @property
    def row_bytes(self) -> int:
        return self.width * self.samples * self.stored.itemsize

    @property
    def full(self) -> Any:
        """Return the value of white, and of a valid pixel's alpha."""
        return 1.0 if self.stored.kind == "f" else np.iinfo(self.stored).max


class WritesRows(ABC):
    """Check rows, convert them to the depth of the file, and pass them to a format."""

    resident_bytes: int

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._file: AtomicFile | None = None
        self._done = 0

    def write_rows(self, pixels: NDArray[Any], alpha: NDArray[np.bool_] | None) -> None:
        picture = self.picture
        try:
            self._check(pixels, alpha)
            rows = self.prepare(pixels)
            if picture.alpha:
                joined = np.zeros((len(rows), picture.width, picture.samples), picture.stored)
                joined[..., : picture.channels] = rows
                joined[..., -1] = picture.full if alpha is None else alpha * picture.full
                rows = joined
            self.add(rows)
        except BaseException:
            self.abort()
            raise
        self._done += len(pixels)

    def commit(self) -> None:
        picture = self.picture
        try:
            if self._done != picture.height:
                raise InputError(
                    f"{display(picture.path)}: {self._done} of {picture.height} rows were written"
                )
            self.finish()
            self.file.commit()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        if self._file is not None:
            self._file.abort()

    @property
    def file(self) -> AtomicFile:
        """Return the file, which is created when it is first needed."""
        if self._file is None:
            self._file = AtomicFile(self.picture.path, self.picture.force)
        return self._file

    def prepare(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels as the file stores them, without alpha."""
        return convert_depth(pixels, self.picture.stored)

    @abstractmethod
    def add(self, rows: NDArray[Any]) -> None:
        """Add rows ``(n, W, samples)`` of the stored dtype."""

    @abstractmethod
    def finish(self) -> None:
        """Write the rest of the file after the last row."""

    def _check(self, pixels: NDArray[Any], alpha: NDArray[np.bool_] | None) -> None:
        """Check that rows fit the picture."""
        picture = self.picture
        if pixels.dtype != picture.dtype or pixels.shape[1:] != (picture.width, picture.channels):
            raise InputError(
                f"rows of {display(picture.path)} must be (n, {picture.width}, {picture.channels})"
                f" {picture.dtype}, got {pixels.shape} {pixels.dtype}"
            )
        if alpha is not None and alpha.shape != pixels.shape[:2]:
            raise InputError(f"alpha must be {pixels.shape[:2]}, got {alpha.shape}")
        if self._done + len(pixels) > picture.height:
            raise InputError(f"{display(picture.path)}: more than {picture.height} rows")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise InputError(f"{display(picture.path)}: the result holds NaN or infinite values")


class WholeImage(WritesRows):
    """Collect the rows of an image that is encoded as a whole."""

    def __init__(self, picture: Picture) -> None:
        super().__init__(picture)
        shape = (picture.height, picture.width, picture.samples)
        self.pixels: NDArray[Any] = np.empty(shape, picture.stored)

    def add(self, rows: NDArray[Any]) -> None:
        self.pixels[self._done : self._done + len(rows)] = rows

    def abort(self) -> None:
        super().abort()
        self.pixels = self.pixels[:0]
