"""Radiance is read as it was written, reduced in linear light, and refused in one line."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastmef.data.radiance import read_radiance
from fastmef.errors import InputError, MissingExtraError

cv2 = pytest.importorskip("cv2", reason="HDR files are read with OpenCV")
OpenEXR = pytest.importorskip("OpenEXR", reason="EXR files are read with OpenEXR")

CODING = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}


@pytest.fixture
def light():
    return np.random.default_rng(0).uniform(0.1, 40, (30, 50, 3)).astype(np.float32)


def write_hdr(path, light):
    assert cv2.imwrite(str(path), light[..., ::-1])


def write_exr(path, channels, **header):
    with OpenEXR.File(CODING | header, channels) as file:
        file.write(str(path))


def test_hdr(tmp_path, light):
    write_hdr(tmp_path / "a.hdr", light)
    found = read_radiance(tmp_path / "a.hdr")
    assert found.dtype == np.float32
    # RGBE has 8 bits a channel, relative to the largest of the three.
    assert (np.abs(found - light) <= light.max(axis=-1, keepdims=True) / 120).all()


@pytest.mark.parametrize("joined", ["RGB", "RGBA", None])
def test_exr(tmp_path, light, joined):
    if joined == "RGBA":
        channels = {"RGBA": np.concatenate((light, light[..., :1]), axis=-1)}
    elif joined:
        channels = {"RGB": light}
    else:
        channels = {name: np.ascontiguousarray(light[..., i]) for i, name in enumerate("RGB")}
    write_exr(tmp_path / "a.EXR", channels)
    assert np.allclose(read_radiance(tmp_path / "a.EXR"), light, rtol=1e-5)


def test_exr_of_other_primaries(tmp_path, light):
    """Grey stays grey; a saturated colour of BT.2020 lies outside sRGB."""
    bt2020 = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.3290)
    light[0, 0], light[0, 1] = (2, 2, 2), (1, 0, 0)
    write_exr(tmp_path / "a.exr", {"RGB": light}, chromaticities=bt2020)
    found = read_radiance(tmp_path / "a.exr")
    assert np.allclose(found[0, 0], 2, atol=1e-3)
    assert np.allclose(found[0, 1], (1.6605, -0.1246, -0.0182), atol=2e-3)


def test_reduced_by_area(tmp_path, light):
    write_exr(tmp_path / "a.exr", {"RGB": light})
    found = read_radiance(tmp_path / "a.exr", max_pixels=light.shape[0] * light.shape[1] // 4)
    assert found.shape == (15, 25, 3)
    assert np.allclose(found, light.reshape(15, 2, 25, 2, 3).mean(axis=(1, 3)), rtol=1e-4)
    assert read_radiance(tmp_path / "a.exr", max_pixels=1500).shape == (30, 50, 3)


class TestRefused:
    def refused(self, path, words):
        with pytest.raises(InputError, match=words) as caught:
            read_radiance(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["a.hdr", "a.exr"])
    def test_damaged(self, tmp_path, light, name):
        self.refused(tmp_path / name, "no such file")
        (tmp_path / name).write_bytes(b"no picture at all")
        self.refused(tmp_path / name, "damaged, or not")
        (tmp_path / name).write_bytes(b"")
        self.refused(tmp_path / name, "damaged, or not")

    def test_other_kinds(self, tmp_path, light):
        self.refused(tmp_path / "a.png", "ends in '.png'")
        write_hdr(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "a.png").rename(tmp_path / "a.hdr")
        self.refused(tmp_path / "a.hdr", "not a Radiance")
        write_exr(tmp_path / "a.exr", {"Z": np.ascontiguousarray(light[..., 0])})
        self.refused(tmp_path / "a.exr", "without R, G and B")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, tmp_path, light, value):
        light[3, 4, 1] = value
        write_exr(tmp_path / "a.exr", {"RGB": light})
        self.refused(tmp_path / "a.exr", "NaN or infinite")

    @pytest.mark.parametrize(("name", "module"), [("a.hdr", "imagecodecs"), ("a.exr", "OpenEXR")])
    def test_missing_extra(self, tmp_path, monkeypatch, name, module):
        (tmp_path / name).write_bytes(b"x")
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"pip install 'fastmef\[hdr\]'"):
            read_radiance(tmp_path / name)
