"""Damaged, hostile and odd image files are either refused in one line or decoded."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from images import SRGB, chunk, damage, deep_encodings, encodings, picture, png
from PIL import Image

from fastmef import FusionNet
from fastmef.data import reading
from fastmef.data.images import read_image
from fastmef.data.sources import open_source
from fastmef.errors import InputError

ENCODINGS = encodings()
DEEP_ENCODINGS = deep_encodings()
REFUSED = "refused"


@pytest.fixture
def read(tmp_path):
    """Return the pixels of a file with this content, or REFUSED; fail for anything else."""
    path = tmp_path / "a.img"

    def read(content):
        path.write_bytes(content)
        begun = time.perf_counter()
        try:
            pixels = read_image(path).pixels
        except InputError as error:
            message = str(error)
            assert message.startswith(f"{path}: ") and "\n" not in message
            return REFUSED
        finally:
            assert time.perf_counter() - begun < 20
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        return pixels

    return read


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize("name", ENCODINGS)
def test_sound_files_are_read(read, name):
    pixels = read(ENCODINGS[name])
    assert pixels is not REFUSED
    turned = pixels.shape[0] > pixels.shape[1]
    expected = np.rot90(picture(), -1) if turned else picture()
    if "grey" in name:
        expected = expected.mean(axis=2, keepdims=True)
    assert np.abs(pixels.astype(float) - expected).mean() < 12


@pytest.mark.parametrize("name", ENCODINGS)
def test_damaged_files(read, name, effort, rng, count, capfd):
    tries, refused, sound = effort(300, 6000), 0, read(ENCODINGS[name])
    for _ in range(tries):
        pixels = read(damage(ENCODINGS[name], rng))
        refused += pixels is REFUSED
        # Checksums cover every byte: what is accepted was changed back, or behind the end.
        assert pixels is REFUSED or not name.startswith("png") or np.array_equal(pixels, sound)
    count(f"{tries} damaged files, {name}: {refused} refused")
    assert refused > tries / 20
    output = capfd.readouterr()
    assert output.out == output.err == ""


@pytest.fixture
def read_strips(tmp_path):
    """Return the pixels of a file with this content, read in strips, or REFUSED."""
    path = tmp_path / "a.img"

    def read_strips(content):
        path.write_bytes(content)
        begun = time.perf_counter()
        source = None
        try:
            source = open_source(path)
            strips = [
                source.rows(top, min(top + 11, source.height))
                for top in range(0, source.height, 11)
            ]
        except InputError as error:
            message = str(error)
            assert message.startswith(f"{path}: ") and "\n" not in message
            return REFUSED
        finally:
            if source is not None:
                source.close()
            assert time.perf_counter() - begun < 20
        pixels = np.concatenate([strip for strip, _ in strips])
        assert pixels.shape == (source.height, source.width, source.channels)
        assert pixels.dtype == source.dtype
        masks = [mask for _, mask in strips if mask is not None]
        assert len(masks) == (len(strips) if source.has_alpha else 0)
        if pixels.dtype.kind == "f":
            assert np.isfinite(pixels).all()
        return pixels

    return read_strips


@pytest.mark.parametrize("name", ENCODINGS | DEEP_ENCODINGS)
def test_damaged_files_in_strips(read_strips, name, effort, rng, count, capfd):
    """10,000 files of all kinds with --long-faults."""
    content = (ENCODINGS | DEEP_ENCODINGS)[name]
    sound = read_strips(content)
    assert sound is not REFUSED
    tries, refused = effort(60, 300), 0
    for _ in range(tries):
        pixels = read_strips(damage(content, rng))
        refused += pixels is REFUSED
        assert pixels is REFUSED or not name.startswith("png") or np.array_equal(pixels, sound)
    count(f"{tries} damaged files in strips, {name}: {refused} refused")
    assert refused > tries / 20
    output = capfd.readouterr()
    # OpenEXR prints lines of its own, and offers no way to stop it for one call.
    assert name.startswith("exr") or output.out == output.err == ""


@pytest.mark.parametrize("name", DEEP_ENCODINGS)
def test_truncated_files_in_strips(read_strips, name, effort, rng, count):
    whole = DEEP_ENCODINGS[name]
    lengths = rng.sample(range(len(whole)), min(len(whole), effort(40, len(whole))))
    assert all(read_strips(whole[:length]) is REFUSED for length in lengths)
    count(f"{len(lengths)} truncated files in strips, {name}")


@pytest.mark.parametrize("name", ENCODINGS)
def test_truncated_files(read, name, effort, rng, count):
    whole = ENCODINGS[name]
    lengths = rng.sample(range(len(whole)), min(len(whole), effort(100, len(whole))))
    assert all(read(whole[:length]) is REFUSED for length in lengths)
    count(f"{len(lengths)} truncated files, {name}")


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name.startswith("png")])
def test_every_flipped_bit_of_a_png_is_refused(read, name, effort, rng, count):
    whole = ENCODINGS[name]
    bits = rng.sample(range(8 * len(whole)), effort(300, 8 * len(whole)))
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        assert read(bytes(data)) is REFUSED
    count(f"{len(bits)} flipped bits, {name}")


def test_flipped_bits_of_deflated_tiff_are_refused(read, rng, effort, count):
    """Some flips do no harm, because the last byte before the checksum has unused bits."""
    whole = ENCODINGS["tiff deflate"]
    sound = read(whole)
    image = Image.open(io.BytesIO(whole))
    (start,), (size,) = image.tag_v2[273], image.tag_v2[279]
    bits = rng.sample(range(8 * start, 8 * (start + size)), effort(300, 8 * size))
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        pixels = read(bytes(data))
        assert pixels is REFUSED or np.array_equal(pixels, sound)
    count(f"{len(bits)} flipped bits, image data of tiff deflate")


class TestChecks:
    """Damage that Pillow alone does not detect."""

    rows = b"".join(b"\0" + row.tobytes() for row in picture())

    @pytest.mark.parametrize(
        "compressed",
        [
            zlib.compress(rows)[:-1] + b"\0",  # the checksum behind the pixels
            zlib.compress(rows[:-1]),
            zlib.compress(rows + b"\0"),
            zlib.compress(rows) + b"more",
            zlib.compress(b"\x07" + rows[1:]),  # an unknown filter
            zlib.compress(rows)[:-5],
        ],
    )
    def test_png_image_data(self, read, compressed):
        assert read(png(picture())) is not REFUSED
        assert read(png(picture(), compressed)) is REFUSED

    def test_jpeg_warnings(self, read):
        whole = ENCODINGS["jpeg"]
        assert read(whole[:-2] + bytes(20) + whole[-2:]) is REFUSED

    @pytest.mark.parametrize(
        ("tag", "value"),
        [(256, 40), (256, 60), (257, 30), (257, 60), (278, 20), (279, 100), (273, 10**6)],
    )
    def test_tiff_whose_rows_do_not_fit(self, read, tag, value):
        """Damage width, height, or the rows, length or offset of a strip."""
        data = bytearray(ENCODINGS["tiff"])
        (start,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, start)[0]):
            place = start + 2 + 12 * i
            if struct.unpack_from("<H", data, place)[0] == tag:
                struct.pack_into("<HII", data, place + 2, 4, 1, value)
        assert read(bytes(data)) is REFUSED

    def test_tiff_tiles(self, read, tmp_path):
        cv2 = pytest.importorskip("cv2", reason="OpenCV writes other TIFFs than Pillow")
        for compression in (1, 5, 8, 32946):
            options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 5]
            _, content = cv2.imencode(".tif", picture()[..., ::-1], options)
            assert np.array_equal(read(content.tobytes()), picture())

    def test_libtiff_is_silent(self, read, capfd, rng):
        """libtiff prints nothing for fastmef, but still prints errors that other code causes."""
        for name in ("tiff deflate", "tiff lzw", "tiff packbits", "tiff jpeg"):
            for _ in range(100):
                read(damage(ENCODINGS[name], rng))
        assert capfd.readouterr().err == ""
        data = bytearray(ENCODINGS["tiff deflate"])
        (start,) = Image.open(io.BytesIO(data)).tag_v2[273]
        data[start] = 0  # a byte of the header of the compressed data
        with pytest.raises(OSError):
            Image.open(io.BytesIO(bytes(data))).load()
        assert "ZIPDecode" in capfd.readouterr().err


class TestLimits:
    """Shapes and sizes are judged before anything is allocated."""

    def refused_cheaply(self, tmp_path, content, words):
        path = tmp_path / "a.img"
        path.write_bytes(content)
        tracemalloc.start()
        begun = time.process_time()
        try:
            with pytest.raises(InputError, match=words) as caught:
                open_source(path).rows(0, 10)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert "\n" not in str(caught.value)
        assert time.process_time() - begun < 1
        assert peak < 60e6 + 4 * len(content)

    def declared(self, kind):
        """22000 × 22000 pixels (WebP: 16383 × 16383) in a kilobyte."""
        side = 22000
        if kind == "png":
            data = bytearray(png(picture()))
            data[8:33] = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        elif kind == "jpeg":
            data = bytearray(ENCODINGS["jpeg"])
            start = data.index(b"\xff\xc0") + 5
            data[start : start + 4] = struct.pack(">HH", side, side)
        elif kind == "tiff":
            file = io.BytesIO()
            Image.fromarray(picture()).save(file, "TIFF", compression="tiff_adobe_deflate")
            data = bytearray(file.getvalue())
            (start,) = struct.unpack_from("<I", data, 4)
            for i in range(struct.unpack_from("<H", data, start)[0]):
                place = start + 2 + 12 * i
                if struct.unpack_from("<H", data, place)[0] in (256, 257):
                    struct.pack_into("<HII", data, place + 2, 4, 1, side)
        else:
            data = bytearray(ENCODINGS["webp lossless"])
            data[21:25] = (0x3FFE | 0x3FFE << 14).to_bytes(4, "little")
        return bytes(data)

    @pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
    def test_declared_size(self, tmp_path, kind, monkeypatch):
        self.refused_cheaply(tmp_path, self.declared(kind), "is no photograph; FASTMEF_MAX_PIXELS=")
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", "1000000")
        self.refused_cheaply(tmp_path, self.declared(kind), "at most 1,000,000 are allowed")

    def test_declared_size_of_the_deep_kinds(self, tmp_path, monkeypatch):
        """EXR, HDR, BigTIFF and 16-bit PNG are refused before any pixel is read."""
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", "1000")
        for content in DEEP_ENCODINGS.values():
            self.refused_cheaply(tmp_path, content, "45×37 pixels; at most 1,000")
        monkeypatch.delenv("FASTMEF_MAX_PIXELS")
        hdr = DEEP_ENCODINGS["hdr"].replace(b"-Y 37 +X 45", b"-Y 22000 +X 22000")
        self.refused_cheaply(tmp_path, hdr, "is no photograph")
        exr = bytearray(DEEP_ENCODINGS["exr zip"])
        window = exr.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
        exr[window : window + 16] = struct.pack("<4i", 0, 0, 21999, 21999)
        self.refused_cheaply(tmp_path, bytes(exr), "is no photograph")

    def test_declared_tiles(self, tmp_path):
        """The tiles have 60000 × 60000 pixels in an image of 45 × 37."""
        data = bytearray(DEEP_ENCODINGS["tiff 16-bit lzw tiles"])
        (start,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, start)[0]):
            place = start + 2 + 12 * i
            if struct.unpack_from("<H", data, place)[0] in (322, 323):
                struct.pack_into("<HII", data, place + 2, 4, 1, 60_000)
        self.refused_cheaply(tmp_path, bytes(data), "larger than the image")

    def test_limit_is_raised(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        Image.new("RGB", (9000, 8000)).save(path)
        with pytest.raises(InputError, match="FASTMEF_MAX_PIXELS=72000000"):
            read_image(path)
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", "72000000")
        assert read_image(path).pixels.shape == (8000, 9000, 3)

    @pytest.mark.parametrize("value", ["many", "-5", "0", "1e6"])
    def test_wrong_limit(self, tmp_path, monkeypatch, value):
        (tmp_path / "a.png").write_bytes(ENCODINGS["png"])
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", value)
        with pytest.raises(InputError, match="FASTMEF_MAX_PIXELS must be a number"):
            read_image(tmp_path / "a.png")

    def test_pages(self, tmp_path):
        page = struct.pack("<HHHII", 1, 256, 3, 1, 1)
        offsets = [8 + 18 * i for i in range(32_000)]
        pages = [page + struct.pack("<I", following) for following in [*offsets[1:], 0]]
        content = b"II*\0" + struct.pack("<I", 8) + b"".join(pages)
        self.refused_cheaply(tmp_path, content, "several pages")

    def test_file_that_is_read_as_a_whole(self, tmp_path, monkeypatch):
        """A JPEG of 80 MB, which is little for a TIFF."""
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", "2000000")
        (tmp_path / "a.jpg").write_bytes(ENCODINGS["jpeg"])
        os.truncate(tmp_path / "a.jpg", 80 << 20)
        with pytest.raises(InputError, match="larger than 75108864 bytes"):
            open_source(tmp_path / "a.jpg")

    def test_metadata(self, tmp_path):
        """65 MiB of XMP."""
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, "TIFF", tiffinfo={700: b"<" * (65 << 20)})
        self.refused_cheaply(tmp_path, file.getvalue(), "more than 67108864 bytes of metadata")

    def test_scans(self, tmp_path):
        whole = ENCODINGS["jpeg progressive"]
        last = whole.rindex(b"\xff\xda")
        self.refused_cheaply(
            tmp_path, whole[:-2] + whole[last:-2] * 300 + whole[-2:], "more than 50 scans"
        )

    def test_entries_that_share_their_value(self, tmp_path):
        """A TIFF and an EXIF block: 3000 entries that name the same 60 kB."""
        entries = b"".join(struct.pack("<HHII", 40000 + i, 7, 25_000, 40_000) for i in range(2000))
        block = b"II*\0" + struct.pack("<IH", 8, 2000) + entries
        block = (block + struct.pack("<I", 0)).ljust(65_000, b"\0")
        self.refused_cheaply(tmp_path, block, "entries are larger")
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, "JPEG", exif=b"Exif\0\0" + block)
        (tmp_path / "a.jpg").write_bytes(file.getvalue())
        assert read_image(tmp_path / "a.jpg").exif is None

    def test_comments_and_profiles_that_unfold(self, tmp_path):
        whole, bomb = png(picture()), zlib.compress(bytes(100 << 20), 9)
        text = chunk(b"zTXt", b"Comment\0\0" + bomb)
        (tmp_path / "a.png").write_bytes(whole[:33] + text * 3 + whole[33:])
        assert np.array_equal(read_image(tmp_path / "a.png").pixels, picture())
        profile = chunk(b"iCCP", b"name\0\0" + bomb)
        self.refused_cheaply(tmp_path, whole[:33] + profile + whole[33:], "colour profile")


class TestThreads:
    def test_nothing_global_changes(self, tmp_path, effort, rng, count):
        """Filters of warnings and Pillow's limit of pixels stay, also for the other threads."""
        names = [tmp_path / f"{i}.img" for i in range(len(ENCODINGS))]
        for name, content in zip(names, ENCODINGS.values(), strict=True):
            name.write_bytes(content)
        filters, limit, seen = list(warnings.filters), Image.MAX_IMAGE_PIXELS, set()
        reads, stop = effort(400, 20_000), threading.Event()

        def watch():
            while not stop.is_set():
                seen.add((Image.MAX_IMAGE_PIXELS, len(warnings.filters)))

        def read(seed):
            for i in range(reads // 8):
                read_image(names[(seed + i) % len(names)])

        threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
        watcher = threading.Thread(target=watch)
        watcher.start()
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        stop.set()
        watcher.join()
        assert seen == {(limit, len(filters))}
        assert warnings.filters == filters
        count(f"{reads} files read by 8 threads")


@pytest.mark.skipif(os.name != "posix", reason="pipes with names are POSIX")
class TestPipes:
    def test_named_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        content = ENCODINGS["png"]
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
        writer.start()
        pixels = read_image(tmp_path / "pipe").pixels
        writer.join()
        assert np.array_equal(pixels, picture())

    def test_pipe_without_a_writer(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "WRITER_SECONDS", 0.2)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="a pipe into which nothing writes"):
            read_image(tmp_path / "pipe")

    def test_endless_pipe(self, monkeypatch):
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", "1000")
        with subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as process:
            with pytest.raises(InputError, match="larger than"):
                read_image(f"/dev/fd/{process.stdout.fileno()}")
            process.kill()

    def test_devices(self):
        for name in ("/dev/null", "/dev/zero"):
            with pytest.raises(InputError, match="a device"):
                read_image(name)

    def test_standard_input_and_process_substitution(self, tmp_path):
        for name in ("a", "b"):
            Image.fromarray(picture()).save(tmp_path / f"{name}.png", icc_profile=SRGB)
        FusionNet("any", width=2).save(tmp_path / "net.safetensors")
        command = (
            f"{sys.executable} -m fastmef fuse /dev/stdin <(sleep 0.2; cat b.png)"
            " -o out.png --model net.safetensors --refine 0 < <(cat a.png)"
        )
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert read_image(tmp_path / "out.png").pixels.shape == picture().shape
