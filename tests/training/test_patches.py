"""Patches: a pure function of seed and step, cut alike from all exposures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fastmef.data.pairs import find_scenes
from fastmef.data.patches import PatchSampler
from fastmef.errors import InputError


def test_depends_on_seed_and_step_alone(pairs):
    scenes = find_scenes(pairs)
    one, other = (PatchSampler(scenes, 16, 3, seed=5) for _ in range(2))
    one.batch(0)
    assert torch.equal(one.batch(7), other.batch(7))
    assert not torch.equal(one.batch(7), one.batch(8))
    assert not torch.equal(one.batch(7), PatchSampler(scenes, 16, 3, seed=6).batch(7))


def test_range_and_shape(pairs):
    batch = PatchSampler(find_scenes(pairs), 40, 2, seed=0).batch(0)
    assert batch.shape == (2, 2, 3, 40, 40)
    assert batch.dtype == torch.float32
    assert float(batch.min()) >= 0 and 0.5 < float(batch.max()) <= 1


def test_exposures_are_cut_alike(tmp_path):
    (tmp_path / "scene").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("under", "over"):
        Image.fromarray(pixels).save(tmp_path / "scene" / f"{name}.png")
    batch = PatchSampler(find_scenes(tmp_path), 16, 8, seed=0).batch(0)
    assert torch.equal(batch[:, 0], batch[:, 1])


def test_all_eight_flips_and_rotations_happen(tmp_path):
    (tmp_path / "scene").mkdir()
    rows, columns = np.mgrid[:16, :16].astype(np.uint8)
    pixels = np.stack((columns, rows, rows), axis=-1)
    for name in ("under", "over"):
        Image.fromarray(pixels).save(tmp_path / "scene" / f"{name}.png")
    batch = PatchSampler(find_scenes(tmp_path), 16, 64, seed=0).batch(0)
    turned = {
        tuple((255 * patch[0, :2, 0, 1] - 255 * patch[0, :2, 0, 0]).round().tolist())
        + tuple((255 * patch[0, :2, 1, 0] - 255 * patch[0, :2, 0, 0]).round().tolist())
        for patch in batch
    }
    assert len(turned) == 8


def test_sorted_from_dark_to_bright(tmp_path):
    (tmp_path / "scene").mkdir()
    for name, level in (("a", 200), ("b", 30)):
        Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / "scene" / f"{name}.png")
    batch = PatchSampler(find_scenes(tmp_path), 16, 1, seed=0).batch(0)
    assert batch[0, 0].mean() < batch[0, 1].mean()


def test_errors(tmp_path, pairs):
    with pytest.raises(InputError, match="40x48, smaller than the 44x44 patches"):
        PatchSampler(find_scenes(pairs), 44, 1, seed=0)
    (tmp_path / "scene").mkdir()
    for name, size in (("under", (20, 30)), ("over", (21, 30))):
        Image.new("RGB", size).save(tmp_path / "scene" / f"{name}.png")
    with pytest.raises(InputError, match="over.png: is 21x30"):
        PatchSampler(find_scenes(tmp_path), 16, 1, seed=0)
