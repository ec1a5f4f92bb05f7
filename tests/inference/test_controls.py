"""Every option of fuse() does what its documentation says, or is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastmef
from fastmef.errors import InputError
from fastmef.inference.controls import base_size
from fastmef.inference.fuse import fuse_with_weights
from fastmef.reference.pyramid import enlarge, shrink
from tests.support.photographs import as_stack, photographs, random_network

LARGE = (301, 500)  # the base is 1.5 times smaller


@pytest.fixture(scope="module")
def network():
    return random_network("any")


@pytest.fixture(scope="module")
def fuse(network):
    def call(images, **options):
        return fuse_with_weights(images, network, **{"refine": 3, **options})

    return call


class TestColor:
    def test_restores_saturation_and_keeps_luma(self, fuse):
        images = photographs(40, 51, 3)
        plain, weights = fuse(images, color=0)
        fused, same = fuse(images, color=1)
        assert np.array_equal(weights, same)
        luma = np.array([0.299, 0.587, 0.114])
        assert np.abs((fused @ luma) - (plain @ luma)).mean() < 1
        assert np.ptp(fused, axis=2).mean() > 1.05 * np.ptp(plain, axis=2).mean()


class TestContrast:
    def test_scales_the_detail_beyond_the_base(self, fuse):
        images = photographs(*LARGE)
        # The knee does not change these levels.
        images = [np.uint8(70 + 0.4 * image) for image in images]
        none, once, twice = (fuse(images, contrast=c)[0].astype(float) for c in (0, 1, 2))
        detail = once - none
        assert np.abs(detail).mean() > 1
        assert np.abs((twice - once) - detail).max() <= 2  # three images are rounded

    def test_zero_is_the_enlarged_base(self, fuse):
        images = [np.uint8(70 + 0.4 * image) for image in photographs(*LARGE)]
        fused, weights = fuse(images, contrast=0, color=0)
        base = shrink(as_stack(images), weights.shape[1:])
        small = (torch.from_numpy(weights).double()[None].unsqueeze(2) * base).sum(1)
        exact = 255 * enlarge(small, LARGE)[0].permute(1, 2, 0).numpy()
        assert np.abs(fused - exact).max() <= 0.5 + 1e-2

    def test_changes_nothing_where_the_base_is_the_image(self, fuse):
        images = photographs(40, 51)
        assert np.array_equal(fuse(images, contrast=3)[0], fuse(images)[0])


class TestBrightness:
    @pytest.mark.parametrize("brightness", [-1.5, 0.5, 2])
    def test_is_a_power_of_the_base(self, fuse, brightness):
        images = [np.uint8(70 + 0.4 * image) for image in photographs(40, 51)]
        fused, weights = fuse(images, brightness=brightness, color=0)
        base = (weights[..., None] * np.stack(images) / 255).sum(0)
        exact = base**2.0**-brightness
        middle = (exact > 1 / 128) & (exact < 1 - 1 / 16)
        assert middle.mean() > 0.5
        assert np.abs(fused - 255 * exact)[middle].max() <= 0.5 + 1e-2

    def test_black_and_white_stay(self, fuse):
        image = np.zeros((8, 20, 3), np.uint8)
        image[:, 10:] = 255
        expected = fuse([image, image])[0]
        for brightness in (-2, 2):
            assert np.array_equal(fuse([image, image], brightness=brightness)[0], expected)


class TestBias:
    def test_multiplies_the_weight(self, fuse):
        images = photographs(40, 51, 3)
        bias = np.array([0.5, -1.0, 2.0])
        _, plain = fuse(images, refine=0)
        _, weights = fuse(images, refine=0, bias=bias)
        expected = plain * np.exp(bias)[:, None, None]
        np.testing.assert_allclose(weights, expected / expected.sum(0), atol=1e-5)

    def test_zero_changes_nothing(self, fuse):
        images = photographs(40, 51, 3)
        assert np.array_equal(fuse(images, bias=[0, 0, 0])[0], fuse(images)[0])

    def test_belongs_to_the_image(self, fuse):
        images = photographs(40, 51, 3)
        fused = fuse(images, bias=[1, 0, -1])[0]
        assert np.array_equal(fuse(images[::-1], bias=[-1, 0, 1])[0], fused)
        assert not np.array_equal(fuse(images[::-1], bias=[1, 0, -1])[0], fused)

    def test_reaches_the_detail(self, fuse):
        """A large bias leaves one photograph, down to its pixels."""
        images = [np.uint8(70 + 0.4 * image) for image in photographs(*LARGE)]
        fused = fuse(images, bias=[20, -20], color=0)[0]
        assert np.abs(fused.astype(int) - images[0]).max() <= 1


class TestMasks:
    region = np.s_[20:70, 30:90]

    def masks(self, size, count=2):
        mask = np.ones(size, bool)
        mask[self.region] = False
        return [mask] + [None] * (count - 1)

    @pytest.mark.parametrize("size", [(100, 130), LARGE])
    @pytest.mark.parametrize("count", [2, 3])
    def test_what_is_masked_does_not_show_up(self, fuse, size, count):
        images = photographs(*size, count)
        results = []
        for garbage in (0, 130, np.random.default_rng(0).integers(0, 256, (50, 60, 3))):
            images[0][self.region] = garbage
            results.append(fuse(images, masks=self.masks(size, count)))
        for fused, weights in results[1:]:
            assert np.array_equal(fused, results[0][0])
            assert np.array_equal(weights, results[0][1])

    def test_the_other_photograph_is_seen(self, fuse):
        images = [np.uint8(70 + 0.4 * image) for image in photographs(*LARGE)]
        fused, weights = fuse(images, masks=self.masks(LARGE), color=0)
        assert np.abs(fused.astype(int) - images[1])[24:66, 34:86].max() <= 1
        assert (weights[0, 15:43, 21:57] == 0).all()
        assert (weights[0, :5] > 0).any()

    def test_where_none_may_be_used_all_are(self, fuse):
        images = photographs(60, 95)
        mask = np.ones((60, 95), bool)
        mask[:, 50:] = False
        expected = fuse(images)[0]
        assert np.array_equal(fuse(images, masks=[~mask & False, ~mask & False])[0], expected)

    def test_a_mask_that_allows_everything_changes_nothing(self, fuse):
        images = photographs(*LARGE)
        expected = fuse(images)[0]
        for masks in ([None, None], [np.ones(LARGE, bool), None]):
            assert np.array_equal(fuse(images, masks=masks)[0], expected)

    def test_belongs_to_the_image(self, fuse):
        images = photographs(100, 130, 3)
        masks = self.masks((100, 130), 3)
        assert np.array_equal(
            fuse(images[::-1], masks=masks[::-1])[0], fuse(images, masks=masks)[0]
        )


class TestWeights:
    @pytest.mark.parametrize("size", [(40, 51), LARGE])
    @pytest.mark.parametrize("options", [{}, {"bias": [0.5, 0, -1]}, {"brightness": 0.5}])
    def test_come_back(self, fuse, size, options):
        images = photographs(*size, 3)
        fused, weights = fuse(images, **options)
        again, same = fuse(images, weights=weights, **options)
        np.testing.assert_allclose(same, weights, atol=1e-6)
        assert np.abs(again.astype(int) - fused).max() <= 1

    def test_are_used_as_they_are(self, fuse):
        images = photographs(40, 51)
        weights = np.zeros((2, 40, 51))
        weights[0, :20], weights[1, 20:] = 3.0, 0.5
        _, used = fuse(images, weights=weights)
        np.testing.assert_allclose(used, weights > 0, atol=1e-6)

    def test_belong_to_the_image(self, fuse):
        images = photographs(40, 51)
        weights = np.random.default_rng(0).uniform(size=(2, 40, 51))
        fused, _ = fuse(images, weights=weights)
        turned, _ = fuse(images[::-1], weights=weights[::-1])
        assert np.array_equal(fused, turned)


def test_size_of_the_base():
    assert base_size(51, 40) == (51, 40)
    assert base_size(500, 301) == (327, 196)
    assert base_size(6000, 4000) == (309, 207)


PAIR = photographs(8, 9)
MASK, MAPS = np.ones((8, 9), bool), np.ones((2, 8, 9), np.float32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"color": -0.1}, "color must be from 0 to 1, got -0.1"),
        ({"color": 1.5}, "color must be from 0 to 1, got 1.5"),
        ({"color": float("nan")}, "color must be from 0 to 1, got nan"),
        ({"color": "much"}, "color must be from 0 to 1, got 'much'"),
        ({"contrast": -1}, "contrast must be from 0 to 4, got -1"),
        ({"contrast": 4.1}, "contrast must be from 0 to 4, got 4.1"),
        ({"brightness": 2.1}, "brightness must be from -2 to 2, got 2.1"),
        ({"brightness": None}, "brightness must be from -2 to 2, got None"),
        ({"refine": -1}, "refine must be an integer of at least 0, got -1"),
        ({"refine": 2.5}, "refine must be an integer of at least 0"),
        ({"refine": True}, "refine must be an integer of at least 0"),
        ({"bias": [0.0]}, r"bias must be 2 numbers from -20 to 20, .* got \[0.0\]"),
        ({"bias": 1.0}, "bias must be 2 numbers"),
        ({"bias": [0, 21]}, "bias must be 2 numbers"),
        ({"bias": [0, float("nan")]}, "bias must be 2 numbers"),
        ({"bias": [0, "1"]}, "bias must be 2 numbers"),
        ({"masks": [MASK]}, "masks must be 2, one for each image or None.*, got 1"),
        ({"masks": 3}, "masks must be 2.*, got int"),
        ({"masks": np.array(True)}, "masks must be 2.*, got ndarray"),
        ({"masks": [None, MASK[:-1]]}, r"mask 1 must be bool, shape \(8, 9\), got bool \(7, 9\)"),
        ({"masks": [MASK.astype(np.uint8), None]}, "mask 0 must be bool, .* got uint8"),
        ({"masks": ["a.png", None]}, "mask 0 must be bool, .* got str"),
        ({"weights": MAPS[:1]}, r"weights must be an array \(2, 8, 9\), got \(1, 8, 9\)"),
        ({"weights": "folder"}, r"weights must be an array \(2, 8, 9\), got str"),
        ({"weights": MAPS.astype(np.int64)}, "weights must be floating-point numbers, got int64"),
        ({"weights": MAPS * np.nan}, "weights must be finite, got NaN"),
        ({"weights": -MAPS}, "weights must not be negative, got -"),
        ({"weights": 0 * MAPS}, "one of the weights must be above 0 at every pixel"),
    ],
)  # fmt: skip
def test_refused(network, options, words):
    with pytest.raises(InputError, match=words) as caught:
        fastmef.fuse(PAIR, network, **options)
    assert "\n" not in str(caught.value)
