"""fuse(): arrays and files in, an image between its inputs out, bad input refused."""

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
from fastmef.inference.pyramid import pyramid_blend
from fastmef.nn.network import FusionNet
from fastmef.reference.restoration import restore_color


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = FusionNet(width=4, skip_connections=True)
    torch.nn.init.normal_(net.body.head.weight)  # weights that vary over the image
    return net


def photographs(height, width, count=2, seed=0):
    """A bright gradient with a dark corner and texture, as a camera would expose it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    light = np.exp(3 * x - 2 * y)[..., None] * np.array([1.0, 0.9, 0.7])
    light = light * rng.uniform(0.8, 1.2, (height, width, 1))
    stops = np.linspace(-3, 1.5, count)
    return [np.uint8(255 * np.clip(light * 2**stop, 0, 1) ** (1 / 2.2)) for stop in stops]


class TestResult:
    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (250, 250)])
    @pytest.mark.parametrize("blend", ["weights", "pyramid"])
    def test_any_size(self, network, size, blend):
        fused = fastmef.fuse(photographs(*size), network, blend)
        assert fused.shape == (*size, 3)
        assert fused.dtype == np.uint8

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_formula_and_range(self, network, count):
        images = photographs(40, 51, count)
        fused, weights = fuse_with_weights(images, network, color=0)
        assert weights.shape == (count, 40, 51)
        np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-5)
        exact = sum(
            w[..., None].astype(np.float64) * i for w, i in zip(weights, images, strict=True)
        )
        assert np.abs(fused - exact).max() <= 0.5 + 1e-3
        assert (fused >= np.min(images, 0)).all()
        assert (fused <= np.max(images, 0)).all()
        assert weights.std() > 0.01

    def test_weights_are_the_networks(self, network):
        images = photographs(24, 32)
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[None] / 255
        with torch.no_grad():
            expected = network.eval()(stack)
        fused, weights = fuse_with_weights(images, network, color=0, refine=0)
        np.testing.assert_allclose(weights, expected.weights[0], atol=1e-5)
        close = np.abs(fused - 255 * expected.fused[0].permute(1, 2, 0).numpy()) <= 0.5 + 1e-3
        assert close.all()

    def test_equal_images_come_back(self, network):
        image = np.random.default_rng(0).integers(0, 256, (33, 20, 3), np.uint8)
        for blend in ("weights", "pyramid"):
            assert np.array_equal(fastmef.fuse([image, image, image], network, blend), image)

    def test_order_does_not_matter(self, network):
        images = photographs(20, 30, 3)
        fused, weights = fuse_with_weights(images, network)
        shuffled, moved = fuse_with_weights([images[2], images[0], images[1]], network)
        assert np.array_equal(fused, shuffled)
        assert np.array_equal(moved, weights[[2, 0, 1]])

    def test_pyramid(self, network):
        images = photographs(60, 85)
        fused, weights = fuse_with_weights(images, network, "pyramid", color=0)
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[None] / 255
        exact = 255 * pyramid_blend(torch.from_numpy(weights)[None], stack)
        assert np.abs(fused - exact[0].permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-2
        assert not np.array_equal(fused, fastmef.fuse(images, network, color=0))

    def test_color(self, network):
        images = photographs(40, 51)
        plain, weights = fuse_with_weights(images, network, color=0)
        fused = fastmef.fuse(images, network, color=1)
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[None] / 255
        maps = torch.from_numpy(weights)[None]
        sum_ = (maps.unsqueeze(2) * stack).sum(1)
        exact = 255 * restore_color(sum_, maps, stack, 1.0)[0].permute(1, 2, 0).numpy()
        assert np.abs(fused - exact).max() <= 0.5 + 1e-2
        assert (fused >= np.min(images, 0)).all() and (fused <= np.max(images, 0)).all()
        assert not np.array_equal(fused, plain)

    def test_deterministic(self, network):
        images = photographs(50, 50)
        assert np.array_equal(fastmef.fuse(images, network), fastmef.fuse(images, network))

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
            ([good, good[..., 0]], r"image 1 has shape \(8, 9\)"),
            ([good, good[:0]], r"image 1 has shape \(0, 9, 3\)"),
            ([good.astype(np.uint16), good], "image 0 has .* dtype uint16; needed: .* uint8"),
            ([good.astype(np.float32), good], "dtype float32"),
            ([np.full((8, 9, 3), np.nan), good], "dtype float64"),
            ([good, torch.zeros(8, 9, 3)], "image 1 is a Tensor; needed: a NumPy array or a path"),
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

    def test_blend(self, network):
        with pytest.raises(InputError, match="blend must be 'weights' or 'pyramid', got 'max'"):
            fastmef.fuse([self.good, self.good], network, blend="max")

    @pytest.mark.parametrize("color", [-0.1, 1.5, float("nan")])
    def test_color_out_of_range(self, network, color):
        with pytest.raises(InputError, match="color must be from 0 to 1, got"):
            fastmef.fuse([self.good, self.good], network, color=color)

    @pytest.mark.parametrize("refine", [-1, 2.5])
    def test_refine_out_of_range(self, network, refine):
        with pytest.raises(InputError, match="refine must be a number of steps"):
            fastmef.fuse([self.good, self.good], network, refine=refine)

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

        monkeypatch.setattr("fastmef.inference.fuse.bracket_logits", exhaust)
        with pytest.raises(InputError, match="images of 9×8 pixels need more memory"):
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
        fastmef.fuse(images, path)
        torch.manual_seed(5)
        other = FusionNet(width=4)
        torch.nn.init.normal_(other.body.head.weight)
        other.save(path)
        assert np.array_equal(fastmef.fuse(images, path), fastmef.fuse(images, other))

    def test_a_network_is_not_touched(self, network):
        network.train()
        fastmef.fuse(photographs(12, 14), network)
        assert network.training

    def test_float64_networks_work(self, network):
        ready, _ = ready_model(FusionNet(width=4).double(), "cpu")
        assert {parameter.dtype for parameter in ready.parameters()} == {torch.float32}
