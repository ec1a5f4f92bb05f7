"""Patches: a pure function of seed and step, cut alike from all exposures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from fastmef.data.frames import Frames
from fastmef.data.pairs import find_scenes
from fastmef.data.patches import PatchSampler
from fastmef.data.training_set import find_training_scenes
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


def test_smaller_photographs_are_continued_by_their_mirror_image(tmp_path):
    (tmp_path / "scene").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("under", "over"):
        Image.fromarray(pixels).save(tmp_path / "scene" / f"{name}.png")
    sampler = PatchSampler(find_scenes(tmp_path), 48, 1, seed=0)
    mirrored = np.concatenate((pixels, pixels[::-1], pixels[:8]))
    mirrored = np.concatenate((mirrored, mirrored[:, :11:-1]), axis=1)
    expected = torch.from_numpy(mirrored).permute(2, 0, 1) / 255
    found = sampler.batch(3)[0, 0]
    turned = [torch.rot90(x, n, (1, 2)) for x in (expected, expected.flip(2)) for n in range(4)]
    assert any(torch.allclose(found, x) for x in turned)
    assert sampler.positions(3)[0][1:] == (0, 0)


def test_errors(tmp_path, pairs, stacks):
    with pytest.raises(InputError, match=r"the same number of exposures, got \[2, 4, 6\]"):
        PatchSampler(find_scenes(pairs) + find_scenes(stacks), 16, 1, seed=0)
    (tmp_path / "scene").mkdir()
    for name, size in (("under", (20, 30)), ("over", (21, 30))):
        Image.new("RGB", size).save(tmp_path / "scene" / f"{name}.png")
    with pytest.raises(InputError, match="over.png: is 21x30"):
        PatchSampler(find_scenes(tmp_path), 16, 1, seed=0)


@pytest.fixture(scope="module")
def scenes(pairs, stacks, hdr):
    return find_training_scenes([pairs, stacks, hdr]).training


@pytest.fixture(scope="module")
def sampler(scenes):
    return PatchSampler(scenes, 24, 3, seed=0, exposures="any")


class TestAnyExposures:
    """Batches of pairs and single brackets, photographed or rendered."""

    STEPS = range(300)

    def kinds(self, scenes, steps=STEPS):
        """Return ``(scene, batch size, exposures)`` of every batch."""
        sampler = PatchSampler(scenes, 16, 3, seed=0, exposures="any")
        shapes = [(sampler.positions(step)[0][0].name, sampler.batch(step).shape) for step in steps]
        return [(name, shape[0], shape[1]) for name, shape in shapes]

    def test_depends_on_seed_and_step_alone(self, scenes, sampler):
        other = PatchSampler(scenes, 24, 3, seed=0, exposures="any")
        third = PatchSampler(scenes, 24, 3, seed=1, exposures="any")
        for step in reversed(range(12)):
            assert torch.equal(sampler.batch(step), other.batch(step))
        assert any(sampler.positions(n) != third.positions(n) for n in range(12))

    def test_half_are_pairs_and_the_others_brackets(self, scenes):
        kinds = self.kinds(scenes)
        pairs = [kind for kind in kinds if kind[0] in "bcd"]
        assert 120 < len(pairs) < 180
        assert {kind[1:] for kind in pairs} == {(3, 2)}
        brackets = [kind for kind in kinds if kind not in pairs]
        assert {name for name, *_ in brackets} == {"long", "short", "room.hdr"}
        assert {size for _, size, _ in brackets} == {1}
        assert {k for name, _, k in brackets if name == "room.hdr"} == {3, 4, 5, 7, 9, 12}
        # A real stack is used for longer brackets too, if it has five frames.
        assert {k for name, _, k in brackets if name == "long"} == {3, 4, 5, 6}
        assert {k for name, _, k in brackets if name == "short"} == {3, 4}
        photographed = sum(name != "room.hdr" for name, *_ in brackets)
        assert 0.35 < photographed / len(brackets) < 0.65

    def test_a_missing_kind_is_replaced(self, pairs, stacks, hdr):
        two, long = find_scenes(pairs), find_scenes(stacks)
        (file,) = find_training_scenes([pairs, hdr]).training[3:]
        steps = range(40)
        assert {k for _, _, k in self.kinds(two, steps)} == {2}
        assert {name for name, *_ in self.kinds(long, steps)} == {"long", "short"}
        assert {name for name, *_ in self.kinds([file], steps)} == {"room.hdr"}
        # The longest bracket of a short stack is the whole stack.
        assert {k for _, _, k in self.kinds(long[1:], steps)} == {3, 4}

    def test_values_and_order(self, sampler):
        for step in range(40):
            batch = sampler.batch(step)
            assert batch.dtype == torch.float32 and batch.shape[2:] == (3, 24, 24)
            assert float(batch.min()) >= 0 and float(batch.max()) <= 1
            means = batch.mean(dim=(2, 3, 4))
            # Over a single patch the order of whole photographs may differ by noise.
            assert (means.diff(dim=1) > -0.01).all()

    def test_frames_of_a_stack_are_distinct(self, scenes):
        sampler = PatchSampler(scenes, 24, 3, seed=0, exposures="any")
        for step in self.STEPS:
            if sampler.positions(step)[0][0].name in ("long", "short"):
                batch = sampler.batch(step)[0]
                assert len({frame.mean().item() for frame in batch}) == len(batch)

    def test_rendered_brackets_are_cut_from_the_file(self, sampler):
        """Frames grow with the radiance at the given position, in one of the eight orientations."""
        rendered = 0
        for step in range(60):
            ((scene, top, left), *_) = sampler.positions(step)
            if scene.name != "room.hdr":
                continue
            rendered += 1
            light = sampler.store.read(scene.images[0])[top : top + 24, left : left + 24]
            levels = torch.from_numpy(np.log(light + 0.02)).permute(2, 0, 1)
            frame = sampler.batch(step)[0].mean(dim=0)
            correlations = [
                float(torch.corrcoef(torch.stack((frame.ravel(), turned.ravel())))[0, 1])
                for flipped in (levels, levels.flip(2))
                for turned in (torch.rot90(flipped, n, (1, 2)) for n in range(4))
            ]
            assert max(correlations) > 0.9 and sorted(correlations)[-2] < 0.8
        assert rendered > 5


class TestFixedNumber:
    """Longer scenes thinned at random, and HDR files rendered, to one number of exposures."""

    @pytest.fixture
    def sampler(self, scenes):
        return PatchSampler(scenes, 24, 3, seed=0, frames=2)

    def test_all_kinds_in_batches_of_one_shape(self, sampler):
        assert sampler.exposures == 2
        batches = [sampler.draw(n) for n in range(40)]
        assert {len(batch) for batch in batches} == {3}
        assert {sampler.batch(n).shape for n in range(10)} == {(3, 2, 3, 24, 24)}
        names = {sampler.scenes[patch.scene].name for batch in batches for patch in batch}
        assert names == {"b", "c", "d", "long", "short", "room.hdr"}

    def test_thinned_at_random_and_in_order(self, sampler):
        drawn = {
            patch.frames
            for n in range(60)
            for patch in sampler.draw(n)
            if sampler.scenes[patch.scene].name == "long"
        }
        assert all(dark < bright for dark, bright in drawn) and len(drawn) > 8

    def test_too_few(self, scenes):
        with pytest.raises(InputError, match="/b: 2 exposures, 3 are drawn from each scene"):
            PatchSampler(scenes, 24, 3, seed=0, frames=3)


def test_counts_of_brackets(scenes):
    sampler = PatchSampler(scenes, 24, 2, seed=0, exposures="any", counts=(2, 3))
    assert {sampler.batch(n).shape[:2] for n in range(60)} == {(2, 2), (1, 2), (1, 3)}


def test_weights_of_folders(scenes):
    sampler = PatchSampler(scenes, 24, 2, seed=0, exposures="any", weights=(3.0, 0.0, 1.0))
    folders = [sampler.positions(n)[0][0].folder for n in range(200)]
    assert set(folders) == {0, 2} and 130 < folders.count(0) < 170
    with pytest.raises(InputError, match="weight 0"):
        PatchSampler(scenes[:2], 24, 2, seed=0, weights=(0.0, 1.0))


def test_reuse_cuts_new_places_of_the_same_photographs(scenes):
    sampler = PatchSampler(scenes, 24, 2, seed=0, exposures="any", reuse=5)
    for start in range(0, 60, 5):
        batches = [sampler.draw(n) for n in range(start, start + 5)]
        kinds = {
            tuple((p.scene, p.frames if isinstance(p.frames, tuple) else None) for p in batch)
            for batch in batches
        }
        assert len(kinds) == 1
        assert len({(p.top, p.left, p.turns, p.flip) for batch in batches for p in batch}) > 3
    assert len({sampler.draw(n)[0].scene for n in range(0, 100, 5)}) > 3


def test_memory_changes_nothing_but_what_is_decoded(scenes):
    whole, tight = (
        PatchSampler(scenes, 24, 2, seed=0, exposures="any", store=Frames(memory))
        for memory in (10**9, 3 * 48 * 40 * 3)
    )
    for n in range(30):
        assert torch.equal(whole.batch(n), tight.batch(n))
    assert whole.store.cache.misses < tight.store.cache.misses
    assert tight.store.cache.bytes <= tight.store.cache.limit


def test_batches_are_the_same_from_any_thread(sampler):
    expected = [sampler.batch(n) for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(sampler.batch, range(12)), expected, strict=True):
            assert torch.equal(one, other)
