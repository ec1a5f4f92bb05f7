"""The measures behind the experiments, on images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef.data.render import srgb_encode
from fastmef.experiments import pu21
from fastmef.experiments.chroma import chroma_difference
from fastmef.experiments.merging import debevec, merge_with_weights, opencv_debevec
from fastmef.experiments.photographs import evs_of_gap
from fastmef.experiments.scoring import score
from fastmef.nn.network import FusionNet


@pytest.fixture
def radiance():
    """Smooth light over 10 stops in changing colours, ``(48, 64, 3)``."""
    y, x = np.mgrid[0:48, 0:64] / 64
    light = 2.0 ** (10 * x - 3)[..., None]
    return light * (1 + 0.5 * np.sin(np.stack([9 * y, 7 * y + 1, 5 * y + 2], axis=-1)))


def test_pu21_of_known_luminances():
    """256 is the value of 100 cd/m² by design; published code rounds to the same integers."""
    assert pu21.encode(np.array([100.0]))[0] == pytest.approx(256, abs=1)
    assert pu21.encode(np.array([0.005]))[0] == pytest.approx(0, abs=0.1)
    luminance = np.geomspace(0.01, 9000, 50)
    np.testing.assert_allclose(pu21.decode(pu21.encode(luminance)), luminance, rtol=1e-6)
    assert pu21.encode(np.array([20_000.0])) == pu21.encode(np.array([10_000.0]))


def test_response_correction_undoes_a_tone_curve(radiance):
    curved = radiance**0.6
    before, after = (
        pu21.psnr(image, radiance)
        for image in (pu21.aligned(curved, radiance), pu21.corrected(curved, radiance))
    )
    # A power of each channel changes colours as well, which the correction leaves.
    assert after > before + 3
    luminance = pu21.luminance(radiance)[..., None]
    grey = np.repeat(luminance, 3, axis=2)
    assert pu21.psnr(pu21.corrected(grey**0.6, grey), grey) > 60
    assert pu21.similarity(pu21.corrected(grey**0.6, grey), grey) > 0.999


def test_alignment_ignores_the_scale(radiance):
    np.testing.assert_allclose(pu21.aligned(7 * radiance, radiance), radiance)


def test_chroma_difference_ignores_brightness(radiance):
    pytest.importorskip("skimage", reason="ΔE00 is scikit-image's")
    shade = np.linspace(0.2, 3, 64)[None, :, None]
    assert chroma_difference(radiance * shade, radiance) < 1e-6
    grey = np.repeat(radiance.mean(axis=2, keepdims=True), 3, axis=2)
    half = (radiance + grey) / 2
    assert chroma_difference(grey, radiance) > chroma_difference(half, radiance) > 1


@pytest.mark.parametrize(("merge", "error"), [(debevec, 0.03), (opencv_debevec, 0.15)])
def test_debevec_recovers_radiance(radiance, merge, error):
    """In OpenCV's merge, clipped exposures distort the result."""
    pytest.importorskip("cv2", reason="one of the merges is OpenCV's")
    evs = np.arange(-8.0, 4.0, 2.0)
    images = [
        np.rint(255 * srgb_encode(np.clip(radiance * 2**ev, 0, 1))).astype(np.uint8) for ev in evs
    ]
    ratio = merge(images, evs) / radiance
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert np.quantile(np.abs(ratio - 1), 0.95) < error


def test_debevec_of_pixels_that_no_exposure_shows():
    dark, bright = np.array([0, 255, 0], np.uint8), np.array([0, 255, 255], np.uint8)
    merged = debevec([dark[None, None], bright[None, None]], [-2, 2])[0, 0]
    half = 0.5 / 255 / 12.92
    np.testing.assert_allclose(merged, [half / 4, 4, 1 / 4])


def test_radiance_by_weights_of_unclipped_exposures(radiance):
    """If nothing clips, every exposure gives the same radiance for any weights."""
    light = np.float32(radiance / radiance.max())
    images = [np.rint(255 * srgb_encode(light * 2.0**ev)).astype(np.uint8) for ev in (-1, 0)]
    merged = merge_with_weights(images, [-1, 0], FusionNet(width=2).eval())
    bright = light > 0.05
    np.testing.assert_allclose(merged[bright], light[bright], rtol=0.08)


def test_evs_of_a_gap(radiance):
    dark, bright = evs_of_gap(np.float32(radiance), 3.0)
    assert bright - dark == pytest.approx(3)


def test_detail_of_a_copy_and_of_a_blur():
    image = np.random.default_rng(0).integers(60, 200, (40, 40, 3)).astype(np.uint8)
    flat = np.full_like(image, 130)
    assert score(image, [image, flat])["detail"] == pytest.approx(1, abs=1e-6)
    assert score(flat, [image, flat])["detail"] == pytest.approx(0, abs=1e-6)


def test_scores_stand_for_one_scene():
    torch.manual_seed(0)
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert score(image, [image, image])["ma2015_1_scale"] == pytest.approx(1, abs=1e-6)
