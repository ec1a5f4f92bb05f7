"""The measured robustness of fusions that change with their bracket, and of stable ones."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="bench.quality compares with OpenCV")

from bench.quality.robustness import robustness  # noqa: E402
from fastmef.inference.simple import plain_mean  # noqa: E402


@pytest.fixture
def frames():
    return [np.full((40, 50, 3), level, np.uint8) for level in (30, 90, 180)]


def median(frames):
    """A fusion that changes only if frames are added."""
    return np.uint8(np.median(frames, axis=0))


def test_a_mean_moves_with_every_frame(frames):
    measured = robustness(plain_mean, frames)
    assert measured == {
        "doubled": 20.0,  # (30 + 90 + 180 + 180) / 4 - 100
        "black": 25.0,
        "white": 39.0,  # 138.75 rounds to 139
        "permuted": 0.0,
        "border_mean": 0.0,
        "border_max": 0.0,
    }


def test_order(frames):
    assert robustness(lambda x: x[0], frames)["permuted"] == 150
    assert robustness(lambda x: x[-1], frames)["permuted"] == 150


def test_border(frames):
    """A fusion that darkens its frame line of one pixel, as zero padding does."""

    def framed(images):
        fused = median(images).copy()
        fused[[0, -1]] = 0
        fused[:, [0, -1]] = 0
        return fused

    assert robustness(median, frames)["border_max"] == 0
    measured = robustness(framed, frames)
    assert measured["border_max"] == 90
    line, ring = 2 * (40 + 50) - 4, 40 * 50 - 32 * 42
    assert measured["border_mean"] == pytest.approx(90 * line / ring)
