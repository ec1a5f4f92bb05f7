"""fuse(): arrays and files in, one image out, bad input refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fastmef
from fastmef.data.images import read_image, write_image
from fastmef.errors import InputError
from fastmef.inference import models
from fastmef.inference.fuse import fuse_with_weights
from fastmef.inference.models import ready_model
from fastmef.inference.refine_color import refine_color
from fastmef.nn.multiscale import base_levels, base_size
from fastmef.nn.network import FusionNet
from fastmef.reference import multiscale
from fastmef.reference.pyramid import shrink
from fastmef.reference.restoration import restore_color
from tests.support.photographs import as_stack, photographs, random_network

LARGE = (301, 500)  # the base is 1.5 times smaller
LOW, HIGH = 2, 239  # levels that are not compressed: 1/128 and 1 - 1/16


@pytest.fixture(scope="module")
def network():
    return random_network("any")


def mean_change(a, b):
    return np.abs(a.astype(float) - b).mean()


class TestResult:
    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), LARGE, (3, 30_000)])
    def test_any_size(self, network, size):
        fused, weights = fuse_with_weights(photographs(*size), network, refine=2)
        assert fused.shape == (*size, 3)
        assert fused.dtype == np.uint8
        assert weights.shape == (2, *base_size(*size))

    @pytest.mark.parametrize("count", [2, 3, 5, 9, 32])
    def test_any_number(self, network, count):
        images = photographs(40, 51, count)
        fused, weights = fuse_with_weights(images, network, refine=3)
        assert fused.shape == (40, 51, 3)
        assert weights.shape == (count, 40, 51)
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
        assert weights.std() > 1e-3

    @pytest.mark.parametrize("size", [(40, 51), LARGE])
    @pytest.mark.parametrize("refine", [0, 5])
    def test_formula(self, network, size, refine):
        """The reference computes the same picture from the weights, in float64."""
        images = photographs(*size, 3)
        fused, weights = fuse_with_weights(images, network, color=0.7, refine=refine)
        stack, maps = as_stack(images), torch.from_numpy(weights).double()[None]
        levels = base_levels(*size)
        base = shrink(multiscale.exposure_pyramid(stack, levels).base, maps.shape[-2:])
        small = restore_color((maps.unsqueeze(2) * base).sum(1), maps, base, 0.7)
        small = refine_color(small, base) if refine else small
        small = small - (small - (1 - 1 / 16)).clamp_min(0) ** 2 / (2 / 16)
        shares = fastmef.functional.exposure_shares(base)
        exact = 255 * multiscale.multiscale_fuse(
            None, stack, levels, base=small, shares=shares, knee=(1 / 128, 1 / 16)
        )
        error = np.abs(fused - exact[0].permute(1, 2, 0).numpy())
        assert error.max() <= 0.5 + 0.02

    def test_weights_are_the_networks_of_the_mirrored_base(self, network):
        images = photographs(24, 32, 3)
        base = as_stack(images).float()
        shares = fastmef.functional.exposure_shares(base)
        wide = torch.nn.functional.pad(base[0], (14, 14, 14, 14), mode="reflect")[None]
        with torch.no_grad():
            logits = network.eval().logits(wide, shares)[..., 14:-14, 14:-14]
        expected = (logits + shares.log()[..., None, None]).softmax(dim=1)[0]
        _, weights = fuse_with_weights(images, network, refine=0)
        np.testing.assert_allclose(weights, expected, atol=1e-5)
        _, refined = fuse_with_weights(images, network, refine=5)
        assert np.abs(refined - weights).max() > 0.01

    @pytest.mark.parametrize("size", [(33, 20), LARGE])
    @pytest.mark.parametrize("count", [2, 5])
    def test_equal_images_come_back(self, network, size, count):
        image = np.random.default_rng(0).integers(LOW, HIGH + 1, (*size, 3), np.uint8)
        assert np.array_equal(fastmef.fuse([image] * count, network), image)

    def test_black_and_white_are_compressed(self, network):
        """The documentation promises level 246 for white and l/4 for black, l = 1/128."""
        image = np.zeros((8, 20, 3), np.uint8)
        image[:, 10:] = 255
        fused = fastmef.fuse([image, image], network, refine=0)
        assert (fused[:, :10] == round(255 / 512)).all()
        assert (fused[:, 10:] == 246).all()

    @pytest.mark.parametrize("size", [(20, 30), LARGE])
    def test_order_does_not_matter(self, network, size):
        images = photographs(*size, 5)
        fused, weights = fuse_with_weights(images, network)
        order = [3, 0, 4, 2, 1]
        shuffled, moved = fuse_with_weights([images[k] for k in order], network)
        assert np.array_equal(fused, shuffled)
        assert np.array_equal(moved, weights[order])

    def test_order_of_images_that_agree_in_every_eighth_pixel(self, network):
        one, other = np.full((2, 24, 32, 3), 90, np.uint8)
        one[1::2], other[3, 3:9] = 140, 30
        images = [one, other, np.full_like(one, 200)]
        fused, weights = fuse_with_weights(images, network)
        turned, moved = fuse_with_weights(images[::-1], network)
        assert np.array_equal(fused, turned)
        assert np.array_equal(moved, weights[::-1])

    @pytest.mark.parametrize("size", [(60, 85), LARGE])
    def test_a_doubled_frame_counts_once(self, network, size):
        images = photographs(*size, 4)
        fused = fastmef.fuse(images, network)
        for doubled in images:
            assert mean_change(fastmef.fuse([*images, doubled], network), fused) < 1

    @pytest.mark.parametrize("level", [0, 255])
    @pytest.mark.parametrize("size", [(60, 85), LARGE])
    def test_an_empty_frame_changes_nothing(self, network, size, level):
        images = photographs(*size, 3)
        fused, weights = fuse_with_weights(images, network)
        empty = np.full_like(images[0], level)
        again, more = fuse_with_weights([images[0], empty, *images[1:]], network)
        assert np.array_equal(again, fused)
        assert (more[1] == 0).all()
        assert np.array_equal(np.delete(more, 1, axis=0), weights)

    def test_one_frame_beside_empty_ones(self, network):
        image = np.random.default_rng(0).integers(LOW, HIGH + 1, (33, 20, 3), np.uint8)
        empty = np.zeros_like(image)
        fused, weights = fuse_with_weights([empty, image, empty], network)
        assert np.array_equal(fused, image)
        assert (weights[1] == 1).all() and (weights[[0, 2]] == 0).all()

    def test_an_empty_frame_has_the_weights_that_are_given(self, network):
        images = [np.full((8, 9, 3), level, np.uint8) for level in (0, 100)]
        images[1][:4] = 150
        half = np.full((2, 8, 9), 0.5)
        fused = fastmef.fuse(images, network, weights=half, color=0)
        assert np.abs(fused - np.mean(images, axis=0)).max() <= 0.5

    def test_nothing_but_empty_frames(self, network):
        black = np.zeros((9, 12, 3), np.uint8)
        fused, weights = fuse_with_weights([black, black], network)
        assert (fused <= 1).all()
        np.testing.assert_allclose(weights, 0.5, atol=1e-5)

    @pytest.mark.parametrize("size", [(40, 51), LARGE])
    @pytest.mark.parametrize("refine", [0, 20])
    def test_16_bit_is_8_bit_more_precisely(self, network, size, refine):
        images = photographs(*size, 3)
        wide = [image.astype(np.uint16) * 257 for image in images]
        fused = fastmef.fuse(wide, network, refine=refine)
        assert fused.dtype == np.uint16
        error = np.abs(fused / 257 - fastmef.fuse(images, network, refine=refine))
        # A descent can step to either side from inputs that differ by a rounding.
        assert np.quantile(error, 0.9999 if refine else 1) <= 0.5 + 1e-2
        assert error.max() <= 1
        assert (fused % 257 != 0).any()

    def test_deterministic(self, network):
        images = photographs(*LARGE)
        assert np.array_equal(fastmef.fuse(images, network), fastmef.fuse(images, network))

    @pytest.mark.filterwarnings("error")
    def test_sources_unchanged(self, network):
        images = photographs(9, 9)
        for image in images:
            image.flags.writeable = False
        before = [image.copy() for image in images]
        fastmef.fuse(images, network)
        assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))

    def test_strided(self, network):
        images = photographs(30, 40)
        expected = fastmef.fuse([image[::-1, ::2].copy() for image in images], network)
        assert np.array_equal(fastmef.fuse([i[::-1, ::2] for i in images], network), expected)


class TestKinds:
    """Arrays and tensors of every depth and number of channels."""

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_float_stays_float(self, network, dtype):
        images = photographs(*LARGE, 3)
        fused = fastmef.fuse([(image / 255).astype(dtype) for image in images], network, refine=0)
        assert fused.dtype == dtype
        error = np.abs(255 * fused.astype(float) - fastmef.fuse(images, network, refine=0))
        assert error.max() <= 0.5 + (0.3 if dtype == np.float16 else 1e-2)
        assert (fused * 255 % 1).astype(float).std() > 0.1

    @pytest.mark.parametrize("size", [(40, 51), LARGE])
    def test_grey_stays_grey(self, network, size):
        grey = [image[..., 1] for image in photographs(*size, 3)]
        fused = fastmef.fuse(grey, network)
        assert fused.shape == size
        colour = fastmef.fuse([np.repeat(image[..., None], 3, 2) for image in grey], network)
        assert np.abs(fused[..., None] - colour.astype(float)).max() <= 1
        planes = fastmef.fuse([image[..., None] for image in grey], network)
        assert np.array_equal(planes[..., 0], fused)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_tensors(self, network, channels):
        images = [image[..., :channels] for image in photographs(*LARGE)]
        tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
        expected = torch.from_numpy(fastmef.fuse(images, network)).permute(2, 0, 1)
        fused = fastmef.fuse(tensors, network)
        assert torch.equal(fused, expected) and fused.is_contiguous()
        assert torch.equal(fastmef.fuse(torch.stack(tensors), network), expected)

    def test_one_fuser_for_many_brackets(self, network):
        fuser = fastmef.Fuser(network, device="cpu")
        for size in ((30, 40), LARGE):
            images = photographs(*size)
            assert np.array_equal(fuser.fuse(images), fastmef.fuse(images, network))
            assert not np.array_equal(fuser.fuse(images, brightness=1.0), fuser.fuse(images))


class TestInputs:
    def test_paths_photos_and_arrays(self, network, tmp_path):
        images = photographs(16, 24)
        paths = [tmp_path / "a.png", tmp_path / "b.tif"]
        for path, image in zip(paths, images, strict=True):
            write_image(path, image)
        expected = fastmef.fuse(images, network)
        assert np.array_equal(fastmef.fuse(paths, network), expected)
        assert np.array_equal(fastmef.fuse([str(paths[0]), images[1]], network), expected)
        assert np.array_equal(fastmef.fuse([read_image(path) for path in paths], network), expected)

    def test_stacked_array(self, network):
        images = photographs(16, 24)
        assert np.array_equal(
            fastmef.fuse(np.stack(images), network), fastmef.fuse(images, network)
        )

    good = np.zeros((8, 9, 3), np.uint8)

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            ([], "two or more images are needed, got 0"),
            ([good], "two or more images are needed, got 1"),
            ("a.jpg", "a list of arrays or paths, got str"),
            (None, "a list of arrays or paths, got NoneType"),
            ([good, good[:-1]], "image 0 is 9×8 pixels, image 1 is 9×7"),
            ([good, good[..., :2]], r"image 1 has shape \(8, 9, 2\), dtype uint8; needed: shape"),
            ([good, np.zeros((8, 9, 4), np.uint8)], r"image 1 has shape \(8, 9, 4\)"),
            ([good, good[..., 0]], "image 0 is 3, image 1 is 1"),
            ([good[..., 0], good[0]], r"image 1 is 3×9 pixels"),
            ([good, good[:0]], r"image 1 has shape \(0, 9, 3\)"),
            ([good, good.astype(np.uint16)], "image 0 is uint8, image 1 is uint16"),
            ([good.astype(np.int16), good], "image 0 has .* dtype int16; needed: .* uint8, uint16"),
            ([good.astype(np.float32), good], "image 0 is float32, image 1 is uint8"),
            ([np.full((8, 9, 3), np.nan)] * 2, r"must be in \[0, 1\], got NaN"),
            ([np.full((8, 9, 3), 1.5)] * 2, r"must be in \[0, 1\], got values from 1.5 to 1.5"),
            ([good, torch.zeros(8, 9, 3)], r"image 1 has shape \(8, 9, 3\), dtype float32; needed"),
            ([good, torch.zeros(3, 8, 9, dtype=torch.bfloat16)], "dtype bfloat16; needed"),
            ([good, 5], "image 1 is a int; needed: an array, a tensor or a path"),
            ([good, "missing.jpg"], "missing.jpg: no such file"),
        ],
    )
    def test_refused(self, network, images, words):
        with pytest.raises(InputError, match=words) as caught:
            fastmef.fuse(images, network)
        assert "\n" not in str(caught.value)

    def test_different_sizes_of_files(self, network, tmp_path):
        for name, size in (("a.png", (8, 9)), ("b.png", (9, 8))):
            write_image(tmp_path / name, np.zeros((*size, 3), np.uint8))
        with pytest.raises(InputError, match=r"a\.png is 9×8 pixels, .*b\.png is 8×9"):
            fastmef.fuse([tmp_path / "a.png", tmp_path / "b.png"], network)

    @pytest.mark.parametrize("device", ["nonsense", "cuda:99", 3.5])
    def test_device(self, network, device):
        with pytest.raises(InputError, match="is not available here"):
            fastmef.fuse([self.good, self.good], network, device=device)

    def test_model_type(self):
        with pytest.raises(
            InputError, match="model must be a name, a path or a FusionNet, got int"
        ):
            fastmef.fuse([self.good, self.good], model=7)

    @pytest.mark.parametrize("cause", ["main memory", "graphics memory"])
    def test_too_large_for_the_memory(self, network, monkeypatch, cause):
        def exhaust(*_):
            if cause == "main memory":
                return torch.empty(2**62, dtype=torch.uint8)
            raise torch.OutOfMemoryError

        monkeypatch.setattr("fastmef.inference.fuser.fuse_streamed", exhaust)
        with pytest.raises(InputError, match="images of 9×8 pixels need more memory"):
            fastmef.fuse([self.good, self.good], network, device="cpu")

    def test_other_runtime_errors_are_not_memory(self, network, monkeypatch):
        def fail(*_):
            raise RuntimeError("something else")

        monkeypatch.setattr("fastmef.inference.fuser.fuse_streamed", fail)
        with pytest.raises(RuntimeError, match="something else"):
            fastmef.fuse([self.good, self.good], network, device="cpu")

    def test_unknown_model(self):
        with pytest.raises(InputError, match="no-such-model"):
            fastmef.fuse([self.good, self.good], model="no-such-model")


class TestModels:
    def test_a_file_is_loaded_once(self, network, tmp_path, monkeypatch):
        path = tmp_path / "net.safetensors"
        network.save(path)
        images = photographs(12, 14)
        expected = fastmef.fuse(images, network)
        assert np.array_equal(fastmef.fuse(images, path), expected)
        monkeypatch.setattr(models.FusionNet, "from_pretrained", None)
        assert np.array_equal(fastmef.fuse(images, str(path)), expected)

    def test_a_changed_file_is_read_again(self, network, tmp_path):
        path = tmp_path / "net.safetensors"
        network.save(path)
        images = photographs(12, 14)
        before = fastmef.fuse(images, path)
        other = random_network("any", seed=5)
        other.save(path)
        changed = fastmef.fuse(images, path)
        assert np.array_equal(changed, fastmef.fuse(images, other))
        assert not np.array_equal(changed, before)

    def test_a_network_is_not_touched(self, network):
        network.train()
        fastmef.fuse(photographs(12, 14), network)
        assert network.training

    def test_float64_networks_work(self):
        ready, _ = ready_model(FusionNet("any", width=4).double(), "cpu")
        assert {parameter.dtype for parameter in ready.parameters()} == {torch.float32}


class TestFixedNumber:
    """A network for a fixed number of exposures gives the plain weighted sum at full size."""

    @pytest.mark.parametrize("count", [2, 3])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("color", [0, 0.8])
    def test_formula_and_range(self, count, dtype, color):
        images = photographs(40, 51, count)
        if dtype == np.uint16:
            images = [image.astype(dtype) * 257 for image in images]
        fused, weights = fuse_with_weights(images, random_network(count), color=color)
        assert fused.dtype == dtype
        assert weights.shape == (count, 40, 51)
        stack, maps = as_stack(images), torch.from_numpy(weights).double()[None]
        exact = restore_color((maps.unsqueeze(2) * stack).sum(1), maps, stack, color)
        exact = np.iinfo(dtype).max * exact[0].permute(1, 2, 0).numpy()
        assert np.abs(fused - exact).max() <= 0.5 + (1e-2 if dtype == np.uint8 else 0.2)
        assert (fused >= np.min(images, 0)).all() and (fused <= np.max(images, 0)).all()
        assert weights.std() > 0.01

    def test_weights_are_the_networks(self):
        images, network = photographs(*LARGE), random_network(2)
        with torch.no_grad():
            expected = network.eval()(as_stack(images).float()).weights[0]
        _, weights = fuse_with_weights(images, network)
        np.testing.assert_allclose(weights, expected, atol=1e-5)

    def test_equal_images_come_back(self):
        image = np.random.default_rng(0).integers(0, 256, (33, 20, 3), np.uint8)
        assert np.array_equal(fastmef.fuse([image, image], random_network(2)), image)

    def test_order_does_not_matter(self):
        images, network = photographs(20, 30, 3), random_network(3)
        fused, weights = fuse_with_weights(images, network)
        shuffled, moved = fuse_with_weights([images[2], images[0], images[1]], network)
        assert np.array_equal(fused, shuffled)
        assert np.array_equal(moved, weights[[2, 0, 1]])

    @pytest.mark.parametrize("count", [2, 4])
    def test_another_number(self, count):
        with pytest.raises(InputError, match=f"this model fuses exactly 3 images, got {count}"):
            fastmef.fuse(photographs(8, 8, count), random_network(3))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("contrast", 1.5),
            ("brightness", 0.5),
            ("bias", [0.0, 1.0]),
            ("masks", [None, np.ones((8, 9), bool)]),
            ("weights", np.ones((2, 8, 9), np.float32)),
        ],
    )
    def test_options_it_does_not_have(self, name, value):
        words = f"{name} needs a model for any number of exposures"
        with pytest.raises(InputError, match=words):
            fastmef.fuse(photographs(8, 9), random_network(2), **{name: value})
