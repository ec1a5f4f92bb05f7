"""Fusions on a real GPU: the CPU's result, equal bits, and memory of a few strips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fastmef import Fuser, FusionNet

HEIGHT, WIDTH = 1501, 2003


def photographs(count: int, dtype: Any, height: int = HEIGHT) -> list[NDArray[Any]]:
    noise = np.random.default_rng(0).uniform(0, 0.15, (height, WIDTH, 3))
    ramp = np.linspace(0, 0.8, WIDTH)[None, :, None]
    unit = [noise + ramp / 2**k for k in range(count)]
    if np.dtype(dtype).kind == "f":
        return [image.astype(dtype) for image in unit]
    return [np.asarray(image * np.iinfo(dtype).max).astype(dtype) for image in unit]


def fuser(device: str) -> Fuser:
    torch.manual_seed(0)
    return Fuser(FusionNet("any", width=4), device=device)


def half_masks(count: int) -> list[NDArray[np.bool_]]:
    masks = [np.ones((HEIGHT, WIDTH), bool) for _ in range(count)]
    masks[0][:, : WIDTH // 2] = False
    return masks


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [2, 3])
def test_as_on_the_cpu(count: int, dtype: Any, masked: bool) -> None:
    images = photographs(count, dtype)
    options = {"masks": half_masks(count) if masked else None, "refine": 5}
    fused = fuser("cuda").fuse(images, **options)
    expected = fuser("cpu").fuse(images, **options)
    highest = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    difference = np.abs(fused.astype(np.float64) - expected) / highest
    assert difference.mean() < 1 / 255
    assert np.quantile(difference, 0.999) < 4 / 255


def test_same_bits_again() -> None:
    images, one = photographs(3, np.uint8), fuser("cuda")
    first = one.fuse(images)
    for _ in range(3):
        assert np.array_equal(one.fuse(images), first)


def test_memory_does_not_grow_with_full_size_pixels() -> None:
    one = fuser("cuda")
    peaks = []
    for height in (2000, 8000):
        images = photographs(2, np.uint8, height)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        one.fuse(images)
        peaks.append(torch.cuda.max_memory_allocated())
    more = 2 * 6000 * WIDTH * 3  # bytes of the two exposures
    assert peaks[1] - peaks[0] < 2 * more
