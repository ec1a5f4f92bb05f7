"""Image files written in strips of rows, read by other libraries."""

from __future__ import annotations

import os

import numpy as np
import pytest
import simplejpeg
from images import SRGB, picture
from PIL import Image

from fastmef.data.depth import convert_depth
from fastmef.data.metadata import Metadata
from fastmef.data.sinks import create_sink
from fastmef.data.sources import open_source, open_sources
from fastmef.errors import InputError, OutputError

tifffile = pytest.importorskip("tifffile", reason="reads the TIFFs that are written here")
cv2 = pytest.importorskip("cv2", reason="reads PNG and HDR files")
OpenEXR = pytest.importorskip("OpenEXR", reason="of the extra hdr")

HEIGHT, WIDTH = 67, 45
DTYPES = ["uint8", "uint16", "float16", "float32"]


def pixels_of(dtype, channels=3, height=HEIGHT, width=WIDTH):
    noise = np.random.default_rng(1).uniform(0, 1 / 255, (height, width, channels))
    values = (picture(height, width)[..., :channels] / 255 + noise).clip(0, 1)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return (values * np.iinfo(dtype).max).astype(dtype)


MASK = np.ones((HEIGHT, WIDTH), bool)
MASK[:20, :30] = False


def write(path, pixels, mask=None, metadata=None, step=10, **options):
    height, width, channels = pixels.shape
    sink = create_sink(
        path, height, width, channels, pixels.dtype, mask is not None, metadata or Metadata(),
        **options,
    )  # fmt: skip
    for top in range(0, height, step):
        rows = pixels[top : top + step].copy()
        sink.write_rows(rows, None if mask is None else mask[top : top + step])
        rows[...] = 0  # the caller's again
    sink.commit()
    return path


@pytest.mark.parametrize("step", [1, 10, HEIGHT])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
class TestLossless:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("compression", [None, "deflate", "lzw", "zstd"])
    def test_tiff(self, tmp_path, dtype, channels, alpha, step, compression):
        pixels = pixels_of(dtype, channels)
        path = write(
            tmp_path / "a.tif", pixels, MASK if alpha else None, step=step, compression=compression
        )
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            found = page.asarray().reshape(HEIGHT, WIDTH, -1)
            assert page.compression.name.lower().removeprefix("adobe_") == (compression or "none")
            assert len(file.pages) == 1 and page.extrasamples == ((2,) if alpha else ())
        assert found.dtype == dtype
        assert np.array_equal(found[..., :channels], pixels)
        if alpha:
            assert np.array_equal(found[..., -1] > 0, MASK)
            assert found[..., -1].max() == (1 if dtype[0] == "f" else np.iinfo(dtype).max)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd"])
    def test_tiff_in_tiles(self, tmp_path, dtype, channels, alpha, step, compression):
        pixels = pixels_of(dtype, channels)
        path = write(
            tmp_path / "a.tif", pixels, MASK if alpha else None, step=step, compression=compression,
            tile=32,
        )  # fmt: skip
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            assert page.is_tiled and (page.tilelength, page.tilewidth) == (32, 32)
            assert len(page.dataoffsets) == 3 * 2
            found = page.asarray().reshape(HEIGHT, WIDTH, -1)
        assert found.dtype == dtype
        assert np.array_equal(found[..., :channels], pixels)
        source = open_source(path)
        assert source.streams
        rows, valid = source.rows(0, HEIGHT)
        assert np.array_equal(rows[MASK] if alpha else rows, pixels[MASK] if alpha else pixels)
        assert np.array_equal(valid, MASK) if alpha else valid is None
        assert np.array_equal(source.rows(40, 50)[0], pixels[40:50])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("compression", [None, "0", "9"])
    def test_png(self, tmp_path, dtype, channels, alpha, step, compression):
        pixels = pixels_of(dtype, channels)
        path = write(
            tmp_path / "a.png", pixels, MASK if alpha else None, step=step, compression=compression
        )
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).reshape(HEIGHT, WIDTH, -1)
        assert found.dtype == dtype
        color = found[..., :3][..., ::-1] if found.shape[2] > 2 else found
        assert np.array_equal(color[..., :channels], pixels)
        if alpha:
            assert np.array_equal(found[..., -1] == np.iinfo(dtype).max, MASK)

    def test_webp(self, tmp_path, channels, alpha, step):
        pixels = pixels_of("uint8", channels)
        path = write(
            tmp_path / "a.webp", pixels, MASK if alpha else None, step=step, compression="lossless"
        )
        found = np.asarray(Image.open(path))
        valid = MASK if alpha else np.ones_like(MASK)
        assert np.array_equal(found[valid][:, :3], np.broadcast_to(pixels, (*MASK.shape, 3))[valid])
        if alpha:
            assert np.array_equal(found[..., 3] > 0, MASK)

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_exr(self, tmp_path, dtype, channels, alpha, step):
        """Display-referred rows are stored scene-linear and read back."""
        pixels = pixels_of(dtype, channels)
        metadata = Metadata(exposure_scale=0.25)
        path = write(tmp_path / "a.exr", pixels, MASK if alpha else None, metadata, step)
        with OpenEXR.File(str(path), separate_channels=True) as file:
            found = {name: channel.pixels for name, channel in file.channels().items()}
        assert {*found} == {*("RGB" if channels == 3 else "Y"), *("A" if alpha else "")}
        valid = MASK if alpha else np.ones_like(MASK)
        for index, name in enumerate("RGB" if channels == 3 else "Y"):
            value = pixels[..., index].astype(np.float64)
            light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) * 4
            assert found[name].dtype == dtype
            error = np.abs(found[name] - light) / (light + 1e-3)
            assert error[valid].max() < (1e-3 if dtype == "float16" else 1e-5)
            assert not found[name][~valid].any()


class TestLossy:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_jpeg(self, tmp_path, channels):
        pixels = pixels_of("uint8", channels)
        path = write(tmp_path / "a.jpg", pixels, MASK, quality=100)
        image = Image.open(path)
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * channels
        found = np.asarray(image).reshape(pixels.shape).astype(int)
        assert np.abs(found - pixels).mean() < 1

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("step", [1, 64, 100, 1000])
    def test_jpeg_of_bands_has_the_pixels_of_one_encoder(self, tmp_path, channels, step):
        """Two bands, more than there are restart markers, and a rest of rows."""
        for height, width in ((65, 45), (64 * 11 + 3, 17), (128, 8)):
            pixels = pixels_of("uint8", channels, height, width)
            path = write(tmp_path / f"{height}.jpg", pixels, step=step, quality=90)
            whole = simplejpeg.encode_jpeg(
                pixels, 90, *(("GRAY", "Gray") if channels == 1 else ("RGB", "444")), fastdct=False
            )
            decoded = [
                simplejpeg.decode_jpeg(content, "GRAY" if channels == 1 else "RGB", strict=True)
                for content in (path.read_bytes(), whole)
            ]
            assert np.array_equal(*decoded)
            assert np.array_equal(np.asarray(Image.open(path)).reshape(pixels.shape), decoded[0])

    def test_widest_jpeg(self, tmp_path):
        pixels = np.zeros((70, 65500, 1), np.uint8)
        pixels[:, ::5000] = 255
        path = write(tmp_path / "a.jpg", pixels, step=32)
        found = simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", strict=True)
        assert np.abs(found.astype(int) - pixels).max() < 20

    def test_what_a_jpeg_holds_in_memory_does_not_grow_with_its_height(self, tmp_path):
        sinks = [
            create_sink(tmp_path / "a.jpg", height, 500, 3, "uint8", False, Metadata())
            for height in (1000, 60000)
        ]
        assert sinks[0].resident_bytes == sinks[1].resident_bytes < 10_000_000

    @pytest.mark.parametrize("kind", ["jpg", "webp"])
    def test_quality(self, tmp_path, kind):
        sizes = [
            os.path.getsize(write(tmp_path / f"{q}.{kind}", pixels_of("uint8"), quality=q))
            for q in (30, 95)
        ]
        assert 2 * sizes[0] < sizes[1]
        default = write(tmp_path / f"default.{kind}", pixels_of("uint8"))
        assert os.path.getsize(default) == sizes[1]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_hdr(self, tmp_path, channels):
        pixels = pixels_of("float32", channels)
        path = write(tmp_path / "a.hdr", pixels, metadata=Metadata(exposure_scale=0.01))
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
        light = np.where(
            pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** np.float32(2.4)
        )
        light = np.broadcast_to(light * 100, found.shape)
        assert (np.abs(found - light) <= light.max(axis=2, keepdims=True) / 120).all()


class TestDepth:
    @pytest.mark.parametrize(
        ("kind", "dtype", "depth", "expected"),
        [
            ("tif", "uint8", "16", "uint16"),
            ("tif", "uint16", "8", "uint8"),
            ("tif", "uint16", "float", "float32"),
            ("tif", "float32", "half", "float16"),
            ("tif", "float32", "16", "uint16"),
            ("png", "uint8", "16", "uint16"),
            ("png", "uint16", None, "uint16"),
            ("png", "float32", None, "uint16"),
            ("png", "float16", "8", "uint8"),
            ("jpg", "uint16", None, "uint8"),
            ("webp", "float32", None, "uint8"),
        ],
    )
    def test_of_the_file(self, tmp_path, kind, dtype, depth, expected):
        pixels = pixels_of(dtype)
        options = {"compression": "lossless"} if kind == "webp" else {}
        path = write(tmp_path / f"a.{kind}", pixels, depth=depth, **options)
        found = open_source(path).rows(0, HEIGHT)[0]
        assert found.dtype == expected
        scale = 1 if pixels.dtype.kind == "f" else np.iinfo(dtype).max
        highest = 1 if found.dtype.kind == "f" else np.iinfo(expected).max
        wanted = pixels.astype(np.float64) / scale * highest
        tolerance = {"f": 1e-3, "u": 0.51}[found.dtype.kind] if kind != "jpg" else 30
        assert np.abs(found - wanted).max() <= tolerance

    def test_every_level(self):
        """16 bits are rounded to the nearest of 8; 8 bits survive every other depth."""
        levels = np.arange(65536, dtype=np.uint16)
        expected = np.round(levels / 257).astype(np.uint8)
        assert np.array_equal(convert_depth(levels, np.dtype(np.uint8)), expected)
        bytes_ = np.arange(256, dtype=np.uint8)
        for dtype in (np.uint16, np.float16, np.float32):
            deeper = convert_depth(bytes_, np.dtype(dtype))
            assert np.array_equal(convert_depth(deeper, np.dtype(np.uint8)), bytes_)
        single = convert_depth(levels, np.dtype(np.float32))
        assert np.array_equal(convert_depth(single, np.dtype(np.uint16)), levels)

    def test_beyond_black_and_white(self):
        values = np.array([-0.5, 0, 1, 7], np.float32)
        assert convert_depth(values, np.dtype(np.uint8)).tolist() == [0, 0, 255, 255]
        assert convert_depth(values, np.dtype(np.uint16)).tolist() == [0, 0, 65535, 65535]
        assert convert_depth(values, np.dtype(np.float16)).tolist() == values.tolist()


class TestMetadata:
    XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d dc:title="Lake"/></x:xmpmeta>'
    IPTC = b"\x1c\x02\x05\x00\x04Lake"

    def metadata(self):
        exif = Image.Exif()
        exif[271], exif[274] = "Camera", 1
        exif[0x8769] = {33434: (1, 125)}
        exif[0x8825] = {1: "N", 2: (46.0, 30.0, 15.0)}
        return Metadata(SRGB, exif.tobytes(), self.XMP, self.IPTC, (300.0, 200.0))

    @pytest.mark.parametrize(
        ("kind", "options"),
        [("jpg", {}), ("png", {}), ("tif", {}), ("tif", {"tile": 16}), ("webp", {})],
    )
    def test_comes_back(self, tmp_path, kind, options):
        path = write(
            tmp_path / f"a.{kind}", pixels_of("uint8"), metadata=self.metadata(), **options
        )
        found = open_source(path).metadata
        assert found.icc_profile == SRGB
        assert found.xmp == self.XMP
        assert found.iptc == (self.IPTC if kind in ("jpg", "tif") else None)
        if kind != "webp":
            assert found.resolution == pytest.approx((300, 200), abs=0.02)
        image = Image.open(path)
        assert image.getexif()[271] == "Camera"
        assert float(image.getexif().get_ifd(0x8769)[33434][0]) == 1
        assert image.getexif().get_ifd(0x8825)[2] == (46.0, 30.0, 15.0)
        assert image.info["icc_profile"] == SRGB

    def test_grey_profile(self, tmp_path):
        imagecodecs = pytest.importorskip("imagecodecs", reason="makes a grey profile")
        grey = bytes(imagecodecs.cms_profile("gray", whitepoint=(0.3127, 0.329, 1), gamma=2.2))
        for kind in ("jpg", "png", "tif"):
            path = write(
                tmp_path / f"a.{kind}", pixels_of("uint8", 1), metadata=Metadata(icc_profile=grey)
            )
            assert open_source(path).metadata.icc_profile == grey

    @pytest.mark.parametrize("block", ["exif", "xmp", "iptc"])
    def test_blocks_that_do_not_fit_a_jpeg(self, tmp_path, block):
        large = {
            "exif": self.large_exif(),
            "xmp": b"<x:xmpmeta>" + b" " * 70_000 + b"</x:xmpmeta>",
            "iptc": b"\x1c\x02\x05" + bytes(70_000),
        }[block]
        metadata = Metadata(**{block: large})
        path = write(tmp_path / "a.jpg", pixels_of("uint8"), metadata=metadata)
        assert getattr(open_source(path).metadata, block) is None
        path = write(tmp_path / "a.tif", pixels_of("uint8"), metadata=metadata)
        assert getattr(open_source(path).metadata, block) is not None

    def large_exif(self):
        exif = Image.Exif()
        exif[271], exif[274] = "c" * 70_000, 1
        return exif.tobytes()


@pytest.mark.parametrize("tile", [None, 64])
class TestBigTiff:
    def test_above_4_gb(self, tmp_path, tile):
        """The directory alone: the parts are not written."""
        sink = create_sink(
            tmp_path / "a.tif", 40_000, 40_000, 3, np.uint8, False, Metadata(exif=self.exif()),
            tile=tile,
        )  # fmt: skip
        rows = np.full((5, 40_000, 3), 7, np.uint8)
        sink.write_rows(rows, None)
        head = sink.file.partial.read_bytes()[:8]
        sink.abort()
        assert head == b"II\x2b\0\x08\0\0\0"
        assert list(tmp_path.iterdir()) == []

    def test_read_by_others(self, tmp_path, monkeypatch, tile):
        monkeypatch.setattr("fastmef.data.tiff_sink._CLASSIC_LIMIT", 1000)
        pixels = pixels_of("uint16", height=300, width=800)
        path = write(
            tmp_path / "a.tif", pixels, metadata=Metadata(SRGB, self.exif()), compression="deflate",
            tile=tile,
        )  # fmt: skip
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff
            assert len(file.pages[0].dataoffsets) > 1
            assert np.array_equal(file.pages[0].asarray(), pixels)
            assert file.pages[0].tags[34665].value["ExposureTime"] == (1, 125)
        source = open_source(path)
        assert np.array_equal(source.rows(0, 300)[0], pixels)
        assert source.metadata.icc_profile == SRGB

    def exif(self):
        exif = Image.Exif()
        exif[271], exif[274] = "Camera", 1
        exif[0x8769] = {33434: (1, 125)}
        return exif.tobytes()


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("a.png", {"quality": 90}, "quality is an option of JPEG and WebP, not of PNG"),
            ("a.jpg", {"quality": 0}, "quality must be from 1 to 100, got 0"),
            ("a.jpg", {"compression": "zip"}, "JPEG has no choice of compression"),
            ("a.tif", {"compression": "zip"}, "one of none, deflate, lzw, zstd, got 'zip'"),
            ("a.png", {"tile": 256}, "tiles are an option of TIFF, not of PNG"),
            ("a.tif", {"tile": 100}, "must be a multiple of 16 up to 4096, got 100"),
            ("a.tif", {"tile": 0}, "must be a multiple of 16 up to 4096, got 0"),
            ("a.png", {"depth": "float"}, "the depth of PNG must be one of 8, 16, got 'float'"),
            ("a.jpg", {"depth": "16"}, "the depth of JPEG must be one of 8, got '16'"),
        ],
    )
    def test_options(self, tmp_path, name, options, words):
        with pytest.raises(InputError, match=words):
            create_sink(tmp_path / name, 4, 4, 3, np.uint8, False, Metadata(), **options)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "exr", "hdr"])
    def test_rows(self, tmp_path, kind):
        def sink():
            return create_sink(tmp_path / f"a.{kind}", 4, 5, 3, np.float32, False, Metadata())

        rows = np.zeros((4, 5, 3), np.float32)
        for wrong, words in (
            (rows.astype(np.uint8), "must be"),
            (rows[:, :4], "must be"),
            (np.zeros((5, 5, 3), np.float32), "more than 4 rows"),
            (rows + np.float32(np.nan), "NaN or infinite"),
        ):
            with pytest.raises(InputError, match=words):
                sink().write_rows(wrong, None)
        short = sink()
        short.write_rows(rows[:3], None)
        with pytest.raises(InputError, match="3 of 4 rows were written"):
            short.commit()
        assert list(tmp_path.iterdir()) == []

    def test_name_taken_meanwhile(self, tmp_path):
        pixels = pixels_of("uint8")
        sink = create_sink(tmp_path / "a.tif", *pixels.shape, np.uint8, False, Metadata())
        sink.write_rows(pixels, None)
        (tmp_path / "a.tif").write_bytes(b"other")
        with pytest.raises(OutputError, match="exists already"):
            sink.commit()
        assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
        assert (tmp_path / "a.tif").read_bytes() == b"other"


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "exr", "hdr"])
def test_abort_leaves_nothing(tmp_path, kind):
    pixels = pixels_of("uint8")
    sink = create_sink(tmp_path / f"a.{kind}", *pixels.shape, np.uint8, False, Metadata())
    sink.write_rows(pixels[:30], None)
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "options"), [("png", {}), ("tif", {}), ("tif", {"tile": 64})])
def test_strips_reach_the_disk_as_they_come(tmp_path, kind, options):
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 1000, 3), np.uint8)
    sink = create_sink(
        tmp_path / f"a.{kind}", *pixels.shape, np.uint8, False, Metadata(), **options
    )
    for top in range(0, 3000, 1000):
        sink.write_rows(pixels[top : top + 1000], None)
        written = sink.file.partial.stat().st_size
        assert written > (top + 1000) * 3000 - (2 << 20)
    sink.abort()


def test_radiance_round_trip(tmp_path):
    """Values that are read from OpenEXR and written again do not change for any scale."""
    light = pixels_of("float32") * np.float32(40)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(tmp_path / "a.exr"))
    (source,) = open_sources([tmp_path / "a.exr"])
    write(tmp_path / "b.exr", source.rows(0, HEIGHT)[0], metadata=source.metadata)
    found = open_source(tmp_path / "b.exr").rows(0, HEIGHT)[0]
    assert np.allclose(found, light, rtol=1e-4, atol=1e-5)
