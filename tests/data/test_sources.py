"""Image files of every kind, written by other libraries and read in strips of rows."""

from __future__ import annotations

import io
import os
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from images import SRGB, chunk, picture
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from fastmef.data import radiance
from fastmef.data.images import read_image
from fastmef.data.profiles import ConvertedSource
from fastmef.data.sources import open_source, open_sources
from fastmef.errors import InputError, MissingExtraError

tifffile = pytest.importorskip("tifffile", reason="writes the TIFFs that are read here")
imagecodecs = pytest.importorskip("imagecodecs", reason="of the extra photo")
cv2 = pytest.importorskip("cv2", reason="writes PNG and HDR files")
OpenEXR = pytest.importorskip("OpenEXR", reason="of the extra hdr")

HEIGHT, WIDTH = 67, 45
DTYPES = ["uint8", "uint16", "float16", "float32"]


def stored(dtype, channels=3, height=HEIGHT, width=WIDTH):
    """Return a photograph of any depth, (H, W, C), that uses all of its levels."""
    pixels = picture(height, width)[..., : min(channels, 3)].astype(np.float64) / 255
    pixels += np.random.default_rng(1).uniform(0, 1 / 255, pixels.shape)
    pixels = pixels.clip(0, 1)
    if channels in (2, 4):
        alpha = np.ones((height, width, 1))
        alpha[: height // 3, : width // 2] = 0
        pixels = np.concatenate([pixels[..., : channels - 1], alpha], axis=2)
    if np.dtype(dtype).kind == "f":
        return pixels.astype(dtype)
    return (pixels * np.iinfo(dtype).max).astype(dtype)


def whole(source):
    return source.rows(0, source.height)


def check_strips(source, expected, valid=None):
    """Check that strips of any heights, read in any order, equal the rows of the image."""
    height = len(expected)
    assert (source.height, source.width, source.channels) == expected.shape
    assert source.dtype == expected.dtype
    assert source.has_alpha == (valid is not None)
    for step in (1, 7, 16, height):
        for top in range(0, height, step):
            check_rows(source, top, min(top + step, height), expected, valid)
    for top, bottom in ((height - 5, height), (0, 3), (10, 30), (5, 12), (0, height)):
        check_rows(source, top, bottom, expected, valid)


def check_rows(source, top, bottom, expected, valid):
    pixels, mask = source.rows(top, bottom)
    assert pixels.dtype == source.dtype
    if valid is None:
        assert mask is None
        assert np.array_equal(pixels, expected[top:bottom])
    else:
        assert np.array_equal(mask, valid[top:bottom])
        assert np.array_equal(pixels[mask], expected[top:bottom][mask])


class TestTiff:
    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
    @pytest.mark.parametrize("layout", ["strip", "strips", "tiles", "planes"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_layouts(self, tmp_path, dtype, layout, compression):
        pixels = stored(dtype)
        options = {
            "strip": {"rowsperstrip": HEIGHT},
            "strips": {"rowsperstrip": 10},
            "tiles": {"tile": (32, 16)},
            "planes": {"rowsperstrip": 10, "planarconfig": "separate"},
        }[layout]
        data = np.moveaxis(pixels, 2, 0) if layout == "planes" else pixels
        tifffile.imwrite(
            tmp_path / "a.tif", data, photometric="rgb", compression=compression, **options
        )
        source = open_source(tmp_path / "a.tif")
        assert source.streams and not source.linear
        check_strips(source, pixels)
        source.close()

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    @pytest.mark.parametrize("bigtiff", [False, True])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("predictor", [False, True])
    def test_encodings(self, tmp_path, dtype, bigtiff, byteorder, predictor):
        pixels = stored(dtype)
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=9,
            predictor=predictor, bigtiff=bigtiff, byteorder=byteorder,
        )  # fmt: skip
        check_strips(open_source(tmp_path / "a.tif"), pixels)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("channels", [1, 2, 4])
    @pytest.mark.parametrize("compression", [None, "lzw"])
    def test_grey_and_alpha(self, tmp_path, dtype, channels, compression):
        pixels = stored(dtype, channels)
        tifffile.imwrite(
            tmp_path / "a.tif", np.squeeze(pixels), compression=compression, rowsperstrip=20,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
        )  # fmt: skip
        source = open_source(tmp_path / "a.tif")
        if channels == 1:
            check_strips(source, pixels)
        else:
            check_strips(source, pixels[..., :-1], pixels[..., -1] > 0)

    def test_white_is_zero(self, tmp_path):
        pixels = stored("uint16", 1)
        tifffile.imwrite(tmp_path / "a.tif", 65535 - pixels[..., 0], photometric="miniswhite")
        check_strips(open_source(tmp_path / "a.tif"), pixels)

    def test_partly_covered_pixels(self, tmp_path):
        """Straight alpha is valid above a half, premultiplied where it is full."""
        pixels = np.full((1, 4, 4), 200, np.uint8)
        pixels[0, :, 3] = (0, 127, 128, 255)
        for kind, valid in (("unassalpha", [0, 0, 1, 1]), ("assocalpha", [0, 0, 0, 1])):
            tifffile.imwrite(
                tmp_path / f"{kind}.tif", pixels, photometric="rgb", extrasamples=[kind]
            )
            assert whole(open_source(tmp_path / f"{kind}.tif"))[1].tolist() == [valid]

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_orientation(self, tmp_path, dtype, orientation):
        pixels = stored(dtype)
        tag = (274, 3, 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[tag])
        source = open_source(tmp_path / "a.tif")
        turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
        turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
        turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
        check_strips(source, turned)
        assert source.streams == (orientation == 1)

    def test_plain_files_without_the_extra(self, tmp_path, monkeypatch):
        for dtype in DTYPES:
            for compression in (None, "zlib"):
                name = tmp_path / f"{dtype} {compression}.tif"
                tifffile.imwrite(name, stored(dtype), photometric="rgb", compression=compression)
        tifffile.imwrite(tmp_path / "lzw.tif", stored("uint8"), compression="lzw", predictor=True)
        tifffile.imwrite(tmp_path / "deep.tif", stored("uint16"), compression="lzw")
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        for dtype in DTYPES:
            for compression in (None, "zlib"):
                source = open_source(tmp_path / f"{dtype} {compression}.tif")
                assert np.array_equal(whole(source)[0], stored(dtype))
        assert np.array_equal(whole(open_source(tmp_path / "lzw.tif"))[0], stored("uint8"))
        with pytest.raises(MissingExtraError, match=r"pip install 'fastmef\[photo\]'"):
            open_source(tmp_path / "deep.tif")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path, value):
        pixels = stored("float32", 4)
        pixels[5, 5, 1] = value  # not valid
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
        assert np.isfinite(whole(open_source(tmp_path / "a.tif"))[0]).all()
        pixels[40, 40, 1] = value
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
        source = open_source(tmp_path / "a.tif")
        source.rows(0, 30)
        with pytest.raises(InputError, match="a.tif: holds NaN or infinite values"):
            source.rows(30, 60)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"dtype": np.int16}, "a 16-bit signed image"),
            ({"dtype": np.uint32}, "a 32-bit image"),
            ({"dtype": np.float64}, "a 64-bit floating-point image"),
            ({"photometric": "cielab"}, "a Lab image"),
            ({"photometric": "separated", "channels": 4}, "a CMYK image"),
            ({"extrasamples": ["unspecified"], "channels": 4}, "a channel that is no alpha"),
            ({"extrasamples": ["unspecified"] * 2, "channels": 5}, "a 5-channel image"),
            ({"compression": "jpeg2000"}, "compression 34712"),
        ],
    )
    def test_refused(self, tmp_path, options, words):
        options = {"photometric": "rgb", "planarconfig": "contig", **options}
        shape = (20, 30, options.pop("channels", 3))
        pixels = np.zeros(shape, options.pop("dtype", np.uint8))
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
        with pytest.raises(InputError, match=words) as caught:
            open_source(tmp_path / "a.tif")
        assert "\n" not in str(caught.value) and "allowed: RGB or grey" in str(caught.value)


class TestPng:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("strategy", [0, 3])
    def test_filters(self, tmp_path, dtype, channels, strategy):
        """OpenCV writes these files with all filters, or with differences to the left only."""
        pixels = stored(dtype, channels)
        order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
        options = [cv2.IMWRITE_PNG_STRATEGY, strategy]
        cv2.imwrite(str(tmp_path / "a.png"), pixels[..., order], options)
        source = open_source(tmp_path / "a.png")
        assert source.streams
        if channels == 4:
            check_strips(source, pixels[..., :3], pixels[..., 3] > 0)
        else:
            check_strips(source, pixels)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_grey_with_alpha(self, tmp_path, dtype):
        pixels = stored(dtype, 2)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
        check_strips(open_source(tmp_path / "a.png"), pixels[..., :1], pixels[..., 1] > 0)

    def test_blocks(self, tmp_path):
        """Rows that are several times what is decoded at once."""
        pixels = np.random.default_rng(0).integers(0, 256, (700, 2000, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
        check_strips(open_source(tmp_path / "a.png"), pixels)

    def test_few_levels_of_grey(self, tmp_path):
        """4 bits a pixel, black and white at the ends."""
        levels = np.arange(16, dtype=np.uint8).reshape(2, 8)
        cv2.imwrite(str(tmp_path / "a.png"), levels)

        rows = b"".join(b"\0" + bytes(row[::2] << 4 | row[1::2]) for row in levels)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 2, 4, 0, 0, 0, 0))
        content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows))
        (tmp_path / "a.png").write_bytes(content + chunk(b"IEND", b""))
        assert np.array_equal(whole(open_source(tmp_path / "a.png"))[0][..., 0], levels * 17)

    def test_16_bits_without_the_extra(self, tmp_path, monkeypatch):
        cv2.imwrite(str(tmp_path / "color.png"), stored("uint16"))
        cv2.imwrite(str(tmp_path / "grey.png"), stored("uint16", 1))
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        assert np.array_equal(whole(open_source(tmp_path / "grey.png"))[0], stored("uint16", 1))
        with pytest.raises(MissingExtraError, match=r"16-bit colour PNG.*fastmef\[photo\]"):
            open_source(tmp_path / "color.png")


class TestWhole:
    def test_jpeg(self, tmp_path):
        for name, pixels in (("a", picture()), ("b", picture()[..., 0])):
            Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", quality=100, subsampling=0)
            expected = np.asarray(Image.open(tmp_path / f"{name}.jpg"))
            source = open_source(tmp_path / f"{name}.jpg")
            assert not source.streams
            check_strips(source, expected.reshape(*expected.shape[:2], -1))

    def test_webp(self, tmp_path):
        pixels = stored("uint8", 4)
        Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exact=True)
        check_strips(open_source(tmp_path / "a.webp"), pixels[..., :3], pixels[..., 3] > 0)

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    @pytest.mark.parametrize("channels", ["RGB", "RGBA", "Y", "YA"])
    def test_exr(self, tmp_path, dtype, channels):
        pixels = stored(dtype, len(channels)) * np.dtype(dtype).type(4)
        parts = {name: np.ascontiguousarray(pixels[..., i]) for i, name in enumerate(channels)}
        OpenEXR.File({"type": OpenEXR.scanlineimage}, parts).write(str(tmp_path / "a.exr"))
        source = open_source(tmp_path / "a.exr")
        assert source.linear
        if "A" in channels:
            check_strips(source, pixels[..., :-1], pixels[..., -1] > 0)
        else:
            check_strips(source, pixels)

    def test_hdr(self, tmp_path):
        cv2.imwrite(str(tmp_path / "a.hdr"), stored("float32") * 9)
        expected = cv2.imread(str(tmp_path / "a.hdr"), cv2.IMREAD_UNCHANGED)[..., ::-1]
        source = open_source(tmp_path / "a.hdr")
        assert source.linear
        check_strips(source, expected)


class TestBracket:
    def test_sizes_depths_and_channels(self, tmp_path):
        Image.fromarray(picture()).save(tmp_path / "a.png")
        for name, pixels, words in (
            ("size", picture()[:-1], "one size: .*a.png is 45×37 pixels, .*size.tif is 45×36"),
            ("depth", picture().astype(np.uint16), "one depth: .*a.png is uint8, .* is uint16"),
            ("channels", picture()[..., 0], "grey or all in colour: .* 3 channels, .* has 1"),
        ):
            tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
            with pytest.raises(InputError, match=words):
                open_sources([tmp_path / "a.png", tmp_path / f"{name}.tif"])

    def test_radiance_has_one_scale(self, tmp_path):
        """White of the brightest frame becomes 1, and the other frames keep their distance."""
        light = stored("float32", height=200, width=300)
        for name, exposure in (("a", 4.0), ("b", 16.0)):
            channels = {"RGB": light * np.float32(exposure)}
            OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(
                str(tmp_path / f"{name}.exr")
            )
        sources = open_sources([tmp_path / "a.exr", tmp_path / "b.exr"])
        dark, bright = (whole(source)[0].astype(np.float64) for source in sources)
        assert sources[0].metadata.exposure_scale == sources[1].metadata.exposure_scale
        assert np.percentile(bright.max(axis=2), 99.9) == pytest.approx(1, abs=0.01)

        def decode(encoded):
            return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)

        assert np.allclose(decode(bright), 4 * decode(dark), rtol=1e-4, atol=1e-6)

    def test_radiance_is_decoded_when_it_is_needed(self, tmp_path, monkeypatch):
        """The required memory is estimated before anything is decoded."""
        for name in ("a", "b"):
            OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": stored("float32")}).write(
                str(tmp_path / f"{name}.exr")
            )
        decoded = []
        read = radiance._exr_channels
        monkeypatch.setattr(
            radiance, "_exr_channels", lambda *args: decoded.append(args[0].name) or read(*args)
        )
        sources = open_sources([tmp_path / "a.exr", tmp_path / "b.exr"])
        assert decoded == [] and sources[0].resident_bytes >= 2 * stored("float32").nbytes
        sources[0].rows(0, 1)
        whole(sources[1])
        assert sorted(decoded) == ["a.exr", "b.exr"]

    def test_radiance_is_not_mixed_with_photographs(self, tmp_path):
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": stored("float32")}).write(
            str(tmp_path / "a.exr")
        )
        tifffile.imwrite(tmp_path / "b.tif", stored("float32"), photometric="rgb")
        with pytest.raises(InputError, match="scene-linear and display-referred"):
            open_sources([tmp_path / "a.exr", tmp_path / "b.tif"])


class TestProfiles:
    """A wide-gamut frame beside an sRGB one shows the same colours afterwards."""

    @pytest.fixture
    def wide(self):
        """An ICC profile with the primaries of ProPhoto, by Little CMS in imagecodecs."""
        return bytes(
            imagecodecs.cms_profile(
                "rgb",
                whitepoint=(0.3457, 0.3585, 1),
                primaries=(0.7347, 0.2653, 1, 0.1596, 0.8404, 1, 0.0366, 0.0001, 1),
                gamma=1.8,
            )
        )

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    @pytest.mark.parametrize("first", [SRGB, None])
    def test_converted_to_the_first(self, tmp_path, dtype, wide, first):
        pixels = stored(dtype)
        inside = (0.35 + 0.3 * pixels.astype(np.float64) / pixels.max()) * np.float64(
            1 if dtype == "float32" else np.iinfo(dtype).max
        )
        inside = inside.astype(dtype)
        converted = imagecodecs.cms_transform(
            inside, SRGB, wide, colorspace="rgb", outcolorspace="rgb", intent=1
        )
        assert np.abs(converted.astype(float) - inside).mean() > 0.02 * inside.max()
        profile = {"iccprofile": first} if first else {}
        tifffile.imwrite(tmp_path / "a.tif", inside, photometric="rgb", **profile)
        tifffile.imwrite(tmp_path / "b.tif", converted, photometric="rgb", iccprofile=wide)
        sources = open_sources([tmp_path / "a.tif", tmp_path / "b.tif"])
        found = whole(sources[1])[0]
        assert found.dtype == dtype
        error = np.abs(found.astype(np.float64) - inside).max()
        assert error <= {"uint8": 4, "uint16": 200, "float32": 2e-3}[dtype]
        assert sources[1].metadata.icc_profile == first
        again = sources[1].rows(10, 20)[0]
        assert np.array_equal(again, found[10:20])

    def test_damaged_profile(self, tmp_path):
        broken = bytearray(SRGB)
        broken[128:200] = bytes(72)
        Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=SRGB)
        Image.fromarray(picture()).save(tmp_path / "b.png", icc_profile=bytes(broken))
        with pytest.raises(InputError, match="b.png: its colour profile cannot be used"):
            open_sources([tmp_path / "a.png", tmp_path / "b.png"])

    def test_time_of_making_does_not_matter(self, tmp_path):
        later = bytearray(SRGB)
        later[24:36] = bytes(12)
        for name, profile in (("a", SRGB), ("b", bytes(later))):
            Image.fromarray(picture()).save(tmp_path / f"{name}.png", icc_profile=profile)
        sources = open_sources([tmp_path / "a.png", tmp_path / "b.png"])
        assert not isinstance(sources[1], ConvertedSource)


class TestChanges:
    """A file that changes while it is read is refused, even if its content is valid."""

    @pytest.mark.parametrize("kind", ["tif", "png", "jpg", "webp"])
    def test_while_it_is_read(self, tmp_path, kind):
        path = tmp_path / f"a.{kind}"
        Image.fromarray(picture(400, 300)).save(path)
        source = open_source(path)
        if source.streams:
            source.rows(0, 100)
        content = path.read_bytes()
        time.sleep(0.02)
        with open(path, "r+b") as file:
            file.write(content)
        with pytest.raises(InputError, match=f"a.{kind}: has changed while it was read"):
            source.rows(100, 400)

    def test_cut_off(self, tmp_path):
        path = tmp_path / "a.tif"
        Image.fromarray(picture(400, 300)).save(path)
        source = open_source(path)
        os.truncate(path, 1000)
        with pytest.raises(InputError, match=r"a\.tif: "):
            source.rows(0, 400)

    def test_replaced(self, tmp_path):
        """If another file replaces an open one, the open one is still read."""
        path = tmp_path / "a.tif"
        Image.fromarray(picture()).save(path)
        source = open_source(path)
        Image.fromarray(255 - picture()).save(tmp_path / "b.tif")
        os.replace(tmp_path / "b.tif", path)
        assert np.array_equal(whole(source)[0], picture())


class TestMetadata:
    XMP = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" dc:title="Lake"/></x:xmpmeta>'
    )

    @pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
    def test_xmp_says_upright(self, tmp_path, kind):
        options = {"xmp": self.XMP}
        if kind == "png":
            options = {"pnginfo": PngInfo()}
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", self.XMP.decode())
        if kind == "tif":
            options = {"tiffinfo": {700: self.XMP}}
        Image.fromarray(picture()).save(tmp_path / f"a.{kind}", **options)
        found = open_source(tmp_path / f"a.{kind}").metadata.xmp
        assert found == self.XMP.replace(b'"6"', b'"1"')

    @pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
    def test_resolution(self, tmp_path, kind):
        Image.fromarray(picture()).save(tmp_path / f"a.{kind}", dpi=(300, 200))
        found = open_source(tmp_path / f"a.{kind}").metadata.resolution
        assert found == pytest.approx((300, 200), abs=0.02)

    def test_iptc(self, tmp_path):
        record = b"\x1c\x02\x05\x00\x04Lake"
        resource = (
            b"Photoshop 3.0\0"
            + b"8BIM\x04\x04\0\0"
            + len(record).to_bytes(4, "big")
            + record
            + b"\0"
        )
        segment = b"\xff\xed" + (len(resource) + 2).to_bytes(2, "big") + resource
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, "JPEG", extra=segment)
        (tmp_path / "a.jpg").write_bytes(file.getvalue())
        assert open_source(tmp_path / "a.jpg").metadata.iptc == record
        tifffile.imwrite(
            tmp_path / "a.tif", picture(), extratags=[(33723, 7, len(record), record, True)]
        )
        assert open_source(tmp_path / "a.tif").metadata.iptc == record


def test_grey_profile_stays_with_grey(tmp_path):
    grey = bytes(imagecodecs.cms_profile("gray", whitepoint=(0.3127, 0.329, 1), gamma=2.2))
    Image.fromarray(picture()[..., 0]).save(tmp_path / "a.png", icc_profile=grey)
    assert open_source(tmp_path / "a.png").metadata.icc_profile == grey
    assert read_image(tmp_path / "a.png").icc_profile is None


def test_profile_of_another_number_of_channels_is_dropped(tmp_path):
    cmyk = bytearray(SRGB)
    cmyk[16:20] = b"CMYK"
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=bytes(cmyk))
    assert ImageCms.ImageCmsProfile(io.BytesIO(SRGB)).profile.xcolor_space == "RGB "
    assert open_source(tmp_path / "a.png").metadata.icc_profile is None
