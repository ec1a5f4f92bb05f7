"""Weight maps and masks in files."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import Image

from fastmef.data.images import write_image
from fastmef.data.maps import (
    check_map_output,
    enlarge_map,
    map_paths,
    read_maps,
    read_mask,
    write_maps,
)
from fastmef.errors import InputError, OutputError
from tests.support.images import chunk

MAPS = np.random.default_rng(0).uniform(0, 1, (2, 20, 30)).astype(np.float32)


@pytest.fixture
def paths(tmp_path):
    return map_paths(tmp_path / "maps", ["x/dark.jpg", "bright.tif"])


def test_names(tmp_path, paths):
    assert paths == [tmp_path / "maps" / f"{name}.weights.png" for name in ("dark", "bright")]
    with pytest.raises(InputError, match="a/x.jpg and b/x.png would share the weights .*rename"):
        map_paths(tmp_path, ["a/x.jpg", "y.jpg", "b/x.png"])


def test_round_trip(paths):
    write_maps(paths, MAPS)
    read = read_maps(paths, (30, 20))
    assert read.dtype == np.float32
    assert np.abs(read - MAPS).max() <= 0.5 / 65535 + 1e-7
    write_maps(paths, read, force=True)
    assert np.array_equal(read_maps(paths, (30, 20)), read)


def test_black_and_white(paths):
    maps = np.stack([np.zeros((3, 4)), np.ones((3, 4))])
    write_maps(paths, maps)
    assert np.asarray(Image.open(paths[1])).min() == 65535
    assert np.array_equal(read_maps(paths, (4, 3)), maps)


@pytest.mark.parametrize("depth", [8, 16])
def test_depths(tmp_path, depth):
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    if depth == 16:
        levels = levels.astype(np.uint16) * 257
    Image.fromarray(levels).save(tmp_path / "x.png")
    read = read_maps([tmp_path / "x.png"], (4, 3))
    np.testing.assert_allclose(read[0], np.arange(12).reshape(3, 4) * 20 / 255, rtol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_other_kinds(tmp_path, mode):
    Image.new(mode, (4, 3)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="x.png: a.* image; (needed|allowed): "):
        read_maps([tmp_path / "x.png"], (4, 3))


def test_tiff(tmp_path):
    """Editors may save maps in this format."""
    levels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(levels).save(tmp_path / "x.tif")
    read = read_maps([tmp_path / "x.tif"], (4, 3))
    np.testing.assert_allclose(read[0], levels / 65535, rtol=1e-6)


def test_damage(paths):
    write_maps(paths, MAPS)
    whole = paths[0].read_bytes()
    for place in range(0, len(whole), 37):
        data = bytearray(whole)
        data[place] ^= 5
        paths[0].write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_maps(paths, (30, 20))
        assert str(caught.value).startswith(f"{paths[0]}: ") and "\n" not in str(caught.value)
    paths[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged: it is truncated"):
        read_maps(paths, (30, 20))


def test_too_few_pixels(tmp_path):
    """The file has correct checksums, but fewer rows than its header says."""
    header = (4).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(bytes(2 * 5)))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match="x.png: damaged: its image data end too early"):
        read_maps([tmp_path / "x.png"], (4, 3))


def test_declared_size(tmp_path):
    header = (2**31 - 1).to_bytes(4, "big") * 2 + bytes([16, 0, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match="x.png: .* pixels"):
        read_maps([tmp_path / "x.png"], (4, 3))


def test_size(paths):
    write_maps(paths, MAPS)
    with pytest.raises(InputError, match="dark.weights.png: 30×20 pixels; needed: 30×21"):
        read_maps(paths, (30, 21))


class TestOutput:
    def test_new_folder(self, tmp_path, paths):
        check_map_output(tmp_path / "maps", paths, force=False)
        assert list(tmp_path.iterdir()) == []

    def test_existing_file(self, tmp_path, paths):
        write_maps(paths, MAPS)
        for call in (
            lambda force: check_map_output(tmp_path / "maps", paths, force),
            lambda force: write_maps(paths, MAPS, force),
        ):
            with pytest.raises(OutputError, match="dark.weights.png exists already"):
                call(False)
            call(True)

    def test_folder_that_is_a_file(self, tmp_path, paths):
        (tmp_path / "maps").write_text("x")
        with pytest.raises(OutputError, match="maps: it is not a folder"):
            check_map_output(tmp_path / "maps", paths, force=True)
        with pytest.raises(OutputError, match="cannot write into .*maps"):
            write_maps(paths, MAPS)

    def test_missing_parent(self, tmp_path):
        folder = tmp_path / "none" / "maps"
        paths = map_paths(folder, ["x.jpg"])
        with pytest.raises(OutputError, match="no such folder"):
            check_map_output(folder, paths, force=False)
        with pytest.raises(OutputError, match="no such file"):
            write_maps(paths, MAPS[:1])

    @pytest.mark.parametrize(
        "maps", [MAPS[:1], MAPS[0], 2 * MAPS, MAPS - 1, MAPS * np.nan, MAPS[:, :0], "maps"]
    )
    def test_refused(self, tmp_path, paths, maps):
        with pytest.raises(InputError, match=r"maps must be \(2, H, W\) with values in \[0, 1\]"):
            write_maps(paths, maps)
        assert list(tmp_path.iterdir()) == []


class TestMask:
    def test_black_is_false(self, tmp_path):
        pixels = np.zeros((3, 4, 3), np.uint8)
        pixels[0, 0], pixels[1, 1, 2], pixels[2, 2, 0] = 15, 16, 255
        write_image(tmp_path / "x.png", pixels)
        mask = read_mask(tmp_path / "x.png", (4, 3))
        assert mask.dtype == np.bool_
        assert [tuple(place) for place in np.argwhere(mask)] == [(1, 1), (2, 2)]

    def test_size(self, tmp_path):
        write_image(tmp_path / "x.png", np.zeros((3, 4, 3), np.uint8))
        with pytest.raises(InputError, match="x.png: 4×3 pixels; needed: 3×4"):
            read_mask(tmp_path / "x.png", (3, 4))

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="x.png: no such file"):
            read_mask(tmp_path / "x.png", (3, 4))


def test_enlarged():
    plane = np.array([[0.0, 1.0]])
    large = enlarge_map(plane, (8, 3))
    assert large.shape == (3, 8)
    assert (np.diff(large, axis=1) >= 0).all() and large.min() == 0 and large.max() == 1
    assert np.array_equal(enlarge_map(MAPS[0], (30, 20)), MAPS[0])
