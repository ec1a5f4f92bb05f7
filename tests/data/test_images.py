"""Photographs through files: orientation, profiles and EXIF kept, everything else refused."""

from __future__ import annotations

import os
import stat
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from fastmef.data import files
from fastmef.data.images import check_image_output, read_image, write_image
from fastmef.errors import InputError, OutputError

KINDS = ["jpg", "jpeg", "png", "tif", "tiff", "webp"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
LOSSLESS = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}

EXPOSURE_TIME, DATE_TAKEN, EXIF_WIDTH, EXIF_HEIGHT, MAKER_NOTE = 33434, 36867, 40962, 40963, 37500
ORIENTATION, CAMERA, EXIF_DIRECTORY, GPS_DIRECTORY = 274, 271, 0x8769, 0x8825


def scene(height=12, width=21):
    """Large flat areas, so that JPEG and WebP keep them, different in every corner."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[: height // 2, : width // 2] = (210, 40, 40)
    pixels[height // 2 :, width // 2 :] = (30, 200, 60)
    pixels[: height // 2, width // 2 :] = (40, 60, 220)
    return pixels


def camera_exif(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[CAMERA] = "Camera"
    exif[EXIF_DIRECTORY] = {
        EXPOSURE_TIME: (1, 125),
        DATE_TAKEN: "2024:05:06 07:08:09",
        EXIF_WIDTH: 21,
        EXIF_HEIGHT: 12,
        MAKER_NOTE: b"private",
    }
    exif[GPS_DIRECTORY] = {1: "N", 2: (46.0, 30.0, 15.0)}
    return exif.tobytes()


def upright(pixels, orientation):
    """The EXIF standard defines where the stored row 0 and column 0 are in the picture."""
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    return turned


def save(path, pixels=None, mode=None, **options):
    image = Image.fromarray(scene() if pixels is None else pixels)
    kind = path.suffix[1:]
    (image.convert(mode) if mode else image).save(path, **LOSSLESS.get(kind, {}), **options)
    return path


class TestReadImage:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
    def test_turned_upright(self, tmp_path, kind, orientation):
        path = save(tmp_path / f"a.{kind}", exif=camera_exif(orientation))
        expected = upright(scene(), orientation).astype(int)
        pixels = read_image(path).pixels
        assert pixels.dtype == np.uint8
        assert pixels.shape == expected.shape
        assert np.median(np.abs(pixels - expected)) <= 3

    def test_profile_is_kept(self, tmp_path):
        for kind in KINDS:
            assert read_image(save(tmp_path / f"a.{kind}", icc_profile=SRGB)).icc_profile == SRGB

    def test_nothing_embedded(self, tmp_path):
        photo = read_image(save(tmp_path / "a.png"))
        assert photo.icc_profile is None
        assert photo.exif is None
        assert photo.path == tmp_path / "a.png"
        assert np.array_equal(photo.pixels, scene())

    @pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
    def test_grey_is_repeated(self, tmp_path, kind):
        photo = read_image(save(tmp_path / f"a.{kind}", mode="L", icc_profile=LAB))
        assert photo.pixels.shape == (12, 21, 3)
        assert (photo.pixels == photo.pixels[..., :1]).all()
        assert photo.icc_profile is None  # the profile is not for RGB

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    def test_damaged_exif_does_no_harm(self, tmp_path):
        exif = camera_exif(1)
        rng = np.random.default_rng(0)
        for trial in range(40):
            damaged = bytearray(exif)
            for place in rng.integers(6, len(exif), 8):
                damaged[place] = rng.integers(256)
            path = save(tmp_path / f"{trial}.jpg", exif=bytes(damaged))
            assert read_image(path).pixels.size == scene().size

    def test_exif_that_cannot_be_written_again_is_dropped(self, tmp_path):
        """The camera's name is stored as a fraction."""
        text, fraction = b"\x01\x0f\0\x02\0\0\0\x07", b"\x01\x0f\0\x05\0\0\0\x01"
        exif = camera_exif(6)
        assert exif.count(text) == 1
        photo = read_image(save(tmp_path / "a.jpg", exif=exif.replace(text, fraction)))
        assert photo.exif is None
        assert photo.pixels.shape == (21, 12, 3)  # the orientation was read

    def test_larger_than_pillow_allows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow warns above it
        assert read_image(save(tmp_path / "a.png")).pixels.shape == (12, 21, 3)
        assert Image.MAX_IMAGE_PIXELS == 20

    def test_first_picture_of_several_in_a_jpeg(self, tmp_path):
        Image.fromarray(scene()).save(
            tmp_path / "a.mpo", save_all=True, append_images=[Image.new("RGB", (5, 5))]
        )
        (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
        assert read_image(tmp_path / "a.jpg").pixels.shape == (12, 21, 3)


class TestRefused:
    def refuse(self, path, *words):
        with pytest.raises(InputError) as caught:
            read_image(path)
        message = str(caught.value)
        assert "\n" not in message
        assert path.name in message
        for word in words:
            assert word in message

    @pytest.mark.parametrize(
        ("name", "mode", "words"),
        [
            ("a.png", "P", "palette"),
            ("a.png", "RGBA", "alpha"),
            ("a.png", "LA", "alpha"),
            ("a.tif", "RGBA", "alpha"),
            ("a.png", "1", "1-bit"),
            ("a.jpg", "CMYK", "CMYK"),
            ("a.tif", "CMYK", "CMYK"),
            ("a.tif", "F", "32-bit"),
            ("a.tif", "LAB", "Lab"),
        ],
    )
    def test_modes(self, tmp_path, name, mode, words):
        if mode == "LAB":
            Image.new("LAB", (4, 4)).save(tmp_path / name)
        else:
            save(tmp_path / name, mode=mode)
        self.refuse(tmp_path / name, words, "RGB or grey")

    def test_alpha_webp(self, tmp_path):
        pixels = np.dstack([scene(), np.full((12, 21), 100, np.uint8)])
        self.refuse(save(tmp_path / "a.webp", pixels), "alpha")

    def test_transparent_colour(self, tmp_path):
        self.refuse(save(tmp_path / "a.png", transparency=(0, 0, 0)), "alpha")

    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_16_bit_grey(self, tmp_path, kind):
        self.refuse(save(tmp_path / f"a.{kind}", np.full((4, 5), 999, np.uint16)), "16-bit")

    def test_16_bit_rgb_png(self, tmp_path):
        """Pillow would open these as 8-bit RGB."""
        path = save(tmp_path / "a.png")
        data = bytearray(path.read_bytes())
        data[24] = 16
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path.write_bytes(data)
        self.refuse(path, "16-bit")

    def test_16_bit_rgb_tiff(self, tmp_path):
        """Pillow would open these as 8-bit RGB."""
        path = tmp_path / "a.tif"
        entries = [(256, 3, 2), (257, 3, 2), (258, 3, 16), (259, 3, 1), (262, 3, 2), (273, 4, 200)]
        entries += [(277, 3, 3), (278, 3, 2), (279, 4, 24)]
        directory = struct.pack("<H", len(entries))
        for tag, kind, value in entries:
            if tag == 258:
                directory += struct.pack("<HHII", tag, 3, 3, 180)
            else:
                directory += struct.pack("<HHII", tag, kind, 1, value)
        data = struct.pack("<2sHI", b"II", 42, 8) + directory + bytes(4)
        data = data.ljust(180, b"\0") + struct.pack("<3H", 16, 16, 16)
        path.write_bytes(data.ljust(200, b"\0") + bytes(24))
        assert Image.open(path).mode == "RGB"
        self.refuse(path, "16-bit")

    def test_several_pages(self, tmp_path):
        other = Image.fromarray(scene()[::-1])
        for name in ("a.tif", "a.webp", "a.png"):
            save(tmp_path / name, save_all=True, append_images=[other])
            self.refuse(
                tmp_path / name, "several pages" if name == "a.tif" else "animated image; allowed"
            )

    def test_camera_raw(self, tmp_path):
        """Only the preview of a raw file could be read."""
        self.refuse(save(tmp_path / "a.tif", tiffinfo={254: 1}), "raw")

    @pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("part", [0.3, 0.8])
    def test_truncated(self, tmp_path, kind, part):
        noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
        data = save(tmp_path / f"a.{kind}", noise).read_bytes()
        path = tmp_path / f"b.{kind}"
        path.write_bytes(data[: int(part * len(data))])
        self.refuse(path, "damaged")

    def test_no_image(self, tmp_path):
        for name, data in (("empty.jpg", b""), ("text.png", b"hello" * 20), ("a.gif", b"GIF89a")):
            (tmp_path / name).write_bytes(data)
            self.refuse(tmp_path / name, "not an image", "JPEG, PNG, TIFF, WebP")

    def test_other_formats(self, tmp_path):
        Image.fromarray(scene()).save(tmp_path / "a.bmp")
        self.refuse(tmp_path / "a.bmp", "JPEG, PNG, TIFF, WebP")

    def test_no_file(self, tmp_path):
        self.refuse(tmp_path / "missing.jpg", "no such file")

    def test_folder(self, tmp_path):
        (tmp_path / "a.jpg").mkdir()
        self.refuse(tmp_path / "a.jpg", "folder")

    def test_no_permission(self, tmp_path, monkeypatch):
        def refuse(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        path = save(tmp_path / "a.jpg")
        monkeypatch.setattr("os.open", refuse)
        self.refuse(path, "permission denied")

    def test_line_break_in_a_name(self, tmp_path):
        with pytest.raises(InputError, match=r"^'.*two\\nlines.jpg': no such file"):
            read_image(tmp_path / "two\nlines.jpg")

    def test_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FASTMEF_MAX_PIXELS", str(12 * 21 - 1))
        self.refuse(save(tmp_path / "a.png"), "21×12", "251", "FASTMEF_MAX_PIXELS")


class TestWriteImage:
    @pytest.mark.parametrize("source", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_exif_and_profile_arrive(self, tmp_path, source, kind):
        photo = read_image(save(tmp_path / f"a.{source}", exif=camera_exif(6), icc_profile=SRGB))
        out = tmp_path / f"b.{kind}"
        write_image(out, photo.pixels, photo.icc_profile, photo.exif)
        written = Image.open(out)
        exif = written.getexif()
        details = exif.get_ifd(EXIF_DIRECTORY)
        assert exif[ORIENTATION] == 1
        assert exif[CAMERA] == "Camera"
        assert float(details[EXPOSURE_TIME][0]) / float(details[EXPOSURE_TIME][1]) == 1 / 125
        assert details[DATE_TAKEN] == "2024:05:06 07:08:09"
        assert (details[EXIF_WIDTH], details[EXIF_HEIGHT]) == (12, 21) == written.size
        assert MAKER_NOTE not in details
        assert exif.get_ifd(GPS_DIRECTORY)[2] == (46.0, 30.0, 15.0)
        assert written.info["icc_profile"] == SRGB
        again = read_image(out)
        assert again.exif == photo.exif
        assert np.median(np.abs(again.pixels.astype(int) - photo.pixels)) <= 3

    @pytest.mark.parametrize("kind", ["png", "tif", "tiff"])
    def test_without_loss(self, tmp_path, kind):
        noise = np.random.default_rng(1).integers(0, 256, (17, 33, 3), np.uint8)
        write_image(tmp_path / f"a.{kind}", noise)
        assert np.array_equal(read_image(tmp_path / f"a.{kind}").pixels, noise)

    def test_jpeg_keeps_full_colour_resolution(self, tmp_path):
        write_image(tmp_path / "a.jpg", scene())
        assert [layer[1:3] for layer in Image.open(tmp_path / "a.jpg").layer] == [(1, 1)] * 3

    def test_ending_in_capitals(self, tmp_path):
        write_image(tmp_path / "a.JPG", scene())
        assert Image.open(tmp_path / "a.JPG").format == "JPEG"

    def test_exif_too_long_for_jpeg(self, tmp_path):
        exif = Image.Exif()
        exif[CAMERA] = "c" * 70000
        write_image(tmp_path / "a.jpg", scene(), exif=exif.tobytes())
        write_image(tmp_path / "a.png", scene(), exif=exif.tobytes())
        assert CAMERA not in Image.open(tmp_path / "a.jpg").getexif()
        assert CAMERA in Image.open(tmp_path / "a.png").getexif()

    def test_strided_pixels(self, tmp_path):
        pixels = scene()[::-1, ::2]
        write_image(tmp_path / "a.png", pixels)
        assert np.array_equal(read_image(tmp_path / "a.png").pixels, pixels)

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((4, 5), np.uint8),
            np.zeros((4, 5, 4), np.uint8),
            np.zeros((0, 5, 3), np.uint8),
            np.zeros((4, 5, 3), np.uint16),
            [[0]],
        ],
    )
    def test_wrong_pixels(self, tmp_path, pixels):
        with pytest.raises(InputError, match="uint8"):
            write_image(tmp_path / "a.png", pixels)


class TestOutput:
    def refuse(self, path, words, **options):
        with pytest.raises(OutputError, match=words) as caught:
            check_image_output(path, **options)
        assert "\n" not in str(caught.value)
        with pytest.raises(OutputError, match=words):
            write_image(path, scene(), **options)

    def test_unknown_ending(self, tmp_path):
        for name in ("a.bmp", "a", "a.png.txt", ".png"):
            self.refuse(tmp_path / name, r"\.webp")

    def test_existing(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(b"precious")
        self.refuse(path, "exists already; --force")
        assert path.read_bytes() == b"precious"
        write_image(path, scene(), force=True)
        assert np.array_equal(read_image(path).pixels, scene())

    def test_missing_folder(self, tmp_path):
        self.refuse(tmp_path / "none" / "a.png", "no such folder")

    def test_folder(self, tmp_path):
        (tmp_path / "a.png").mkdir()
        self.refuse(tmp_path / "a.png", "folder")
        self.refuse(tmp_path / "a.png", "folder", force=True)

    def test_unwritable_folder(self, tmp_path, monkeypatch):
        def refuse(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
        self.refuse(tmp_path / "a.png", "permission denied")

    def test_name_too_long(self, tmp_path):
        self.refuse(tmp_path / ("n" * 300 + ".png"), "too long")

    @pytest.mark.parametrize(("name", "side"), [("a.jpg", 65501), ("a.webp", 16384)])
    def test_too_large_for_the_format(self, tmp_path, name, side):
        with pytest.raises(OutputError, match=f"{side}×1 pixels"):
            check_image_output(tmp_path / name, (side, 1))
        with pytest.raises(OutputError, match=f"1×{side} pixels"):
            write_image(tmp_path / name, np.zeros((side, 1, 3), np.uint8))
        check_image_output(tmp_path / name, (side - 1, 1))

    def test_checking_leaves_nothing(self, tmp_path):
        check_image_output(tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []


class TestAtomic:
    @pytest.fixture(params=[OSError(28, "No space left on device"), KeyboardInterrupt()])
    def failure(self, request, monkeypatch):
        """An error is raised in the middle of a file."""

        def fail(descriptor, content):
            os.write(descriptor, b"half")
            raise request.param

        monkeypatch.setattr(files, "write_all", fail)
        return OutputError if isinstance(request.param, OSError) else KeyboardInterrupt

    def test_failure_leaves_nothing(self, tmp_path, failure):
        with pytest.raises(failure):
            write_image(tmp_path / "a.png", scene())
        assert list(tmp_path.iterdir()) == []

    def test_failure_leaves_the_old_file(self, tmp_path, failure):
        (tmp_path / "a.png").write_bytes(b"old")
        with pytest.raises(failure):
            write_image(tmp_path / "a.png", scene(), force=True)
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
        assert (tmp_path / "a.png").read_bytes() == b"old"

    def test_full_disk_is_reported(self, tmp_path, monkeypatch):
        def fail(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", fail)
        with pytest.raises(OutputError, match=r"a\.png: no space left"):
            write_image(tmp_path / "a.png", scene())
        assert list(tmp_path.iterdir()) == []

    def test_file_that_appears_meanwhile_is_kept(self, tmp_path, monkeypatch):
        path, fsync = tmp_path / "a.txt", os.fsync

        def appear(descriptor):
            path.write_bytes(b"other")
            fsync(descriptor)

        monkeypatch.setattr(files.os, "fsync", appear)
        with pytest.raises(OutputError, match="exists"):
            files.atomic_write(path, b"new")
        assert path.read_bytes() == b"other"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
    def test_permissions_follow_the_umask(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_image(tmp_path / "a.png", scene())
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640

    @pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
    def test_link_is_followed(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.png").write_bytes(b"old")
        (tmp_path / "a.png").symlink_to(tmp_path / "real" / "a.png")
        write_image(tmp_path / "a.png", scene(), force=True)
        assert (tmp_path / "a.png").is_symlink()
        assert Image.open(tmp_path / "real" / "a.png").size == (21, 12)
