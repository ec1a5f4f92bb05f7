"""FMMEF: its formula window by window, and what any fusion has to keep."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the baseline filters with OpenCV")

from bench.baselines import fmmef as module  # noqa: E402
from bench.baselines.fmmef import fmmef  # noqa: E402


def smooth(height, width, seed=0):
    """A picture of slow waves with a little noise, uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    waves = 0.5 + 0.2 * np.sin(x / 17 + [0, 1, 2]) + 0.2 * np.cos(y / 23 + [1, 0, 2])
    return np.uint8(255 * np.clip(waves + random.normal(0, 0.01, waves.shape), 0, 1))


@pytest.mark.parametrize("channels", [(), (3,)])
def test_detail_is_the_mean_of_fused_windows(channels):
    """Each pixel is the mean, over the windows that hold it, of the fused window's value there."""
    height, width, count = 12, 14, 3
    exposures = list(np.random.default_rng(0).random((count, height, width, *channels)))
    total, windows = np.zeros((height, width, *channels)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            place = np.s_[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
            patches = [exposure[place] for exposure in exposures]
            means = [patch.mean() for patch in patches]
            full = 81 * (3 if channels else 1)  # windows at the border count as whole ones
            norms = [patch.std() * np.sqrt(full) for patch in patches]
            structures = [(p - m) / c for p, m, c in zip(patches, means, norms, strict=True)]
            shares = np.array(norms) ** 4 / np.sum(np.array(norms) ** 4)
            total[place] += max(norms) * sum(
                share * structure for share, structure in zip(shares, structures, strict=True)
            )
            windows[place] += 1
    expected = total / windows.reshape(height, width, *[1] * len(channels))
    detail, means = module._detail(exposures)
    assert np.allclose(detail, expected, atol=1e-9)
    assert means[0].shape == (height, width)


def test_equal_frames_give_that_frame():
    frame = smooth(131, 151)
    for count in (2, 3):
        fused = fmmef([frame] * count)
        error = np.abs(fused.astype(int) - frame)
        # Means that were halved and enlarged are smoother than they were.
        assert error.max() <= 3 and error.mean() < 1


@pytest.mark.parametrize("size", [(1, 1), (9, 40), (64, 64), (65, 127), (257, 130)])
def test_any_size_and_range(size):
    frames = [np.random.default_rng(k).integers(0, 256, (*size, 3), np.uint8) for k in range(3)]
    fused = fmmef(frames)
    assert fused.shape == (*size, 3) and fused.dtype == np.uint8


def test_order_of_frames_does_not_matter():
    frames = [smooth(70, 90, seed) // (seed + 1) for seed in range(3)]
    difference = np.abs(fmmef(frames).astype(int) - fmmef(frames[::-1]))
    assert difference.max() <= 1  # sums in another order, rounded


def test_takes_detail_from_the_frame_that_has_it():
    """The left half is clipped in one frame, the right half in the other."""
    scene = np.random.default_rng(0).integers(80, 170, (96, 128, 3), np.uint8)
    left, right = scene.copy(), scene.copy()
    left[:, 64:], right[:, :64] = 255, 0
    fused = fmmef([left, right]).astype(float)
    for half in (np.s_[10:-10, 10:50], np.s_[10:-10, 78:-10]):
        assert np.corrcoef(fused[half].ravel(), scene[half].ravel())[0, 1] > 0.95
        assert fused[half].std() / scene[half].std() > 0.95  # a plain mean has 0.5
