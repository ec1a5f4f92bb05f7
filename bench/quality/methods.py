"""The methods that are compared: a label and a function from frames to a picture for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastmef
from bench.baselines.enfuse import enfuse, missing
from bench.baselines.fmmef import fmmef
from fastmef.inference.simple import mertens, plain_mean

Image = NDArray[np.uint8]
Fuse = Callable[[Sequence[Image]], Image]

MERTENS, FMMEF, ENFUSE = "OpenCV Mertens", "FMMEF", "enfuse"
DARKEST, BRIGHTEST = "darkest frame", "brightest frame"


def _darkest(frames: Sequence[Image]) -> Image:
    return frames[0]


def _brightest(frames: Sequence[Image]) -> Image:
    return frames[-1]


def _opencv_mertens(frames: Sequence[Image]) -> Image:
    fused = mertens(frames)
    if fused is None:
        raise RuntimeError("OpenCV is missing: pip install '.[bench]'")
    return fused


def baselines() -> dict[str, Fuse]:
    """Return label → method for all methods other than fastmef; they take frames dark to bright."""
    methods: dict[str, Fuse] = {
        DARKEST: _darkest,
        BRIGHTEST: _brightest,
        "plain mean": plain_mean,
        MERTENS: _opencv_mertens,
        FMMEF: fmmef,
    }
    if missing() is None:
        methods[ENFUSE] = enfuse
    return methods


def model(name_or_file: str | Path) -> Fuse:
    """Return ``fastmef.fuse`` with its defaults and these weights, on the CPU."""
    return partial(fastmef.fuse, model=name_or_file, device="cpu")
