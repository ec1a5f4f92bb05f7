"""fastmef fuse: photographs in, one photograph out, and every refusal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image, ImageCms

import fastmef
from fastmef.data import files
from tests.support.photographs import photographs as scene

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.fixture
def fuse(model):
    """The arguments of a fusion."""

    def arguments(images, output, *options):
        return ("fuse", *images, "-o", output, "--model", model, "--device", "cpu", *options)

    return arguments


class TestFused:
    @pytest.mark.parametrize(
        ("kind", "format"), [("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP")]
    )
    def test_kinds(self, run, fuse, photographs, tmp_path, kind, format):
        out = tmp_path / f"fused.{kind}"
        line = run(*fuse(photographs, out)).stdout
        assert Image.open(out).format == format
        assert Image.open(out).size == (40, 30)
        assert line.startswith(f"{out}: 40×30, 2 photographs fused by multiscale in ")
        assert re.search(r"s \(start-up [\d.]+ s\), \d+ MB of memory$", line)
        assert line.count("\n") == 1

    def test_same_as_in_python(self, run, fuse, photographs, model, tmp_path):
        run(*fuse(photographs, tmp_path / "fused.png"))
        expected = fastmef.fuse(photographs, model, device="cpu")
        assert np.array_equal(Image.open(tmp_path / "fused.png"), expected)

    def test_tiles(self, run, fuse, photographs, tmp_path):
        run(*fuse(photographs, tmp_path / "strips.tif"))
        run(*fuse(photographs, tmp_path / "tiles.tif", "--tiles", 16))
        strips, tiles = (Image.open(tmp_path / f"{name}.tif") for name in ("strips", "tiles"))
        assert tiles.tag_v2[322] == 16 and 322 not in strips.tag_v2
        assert np.array_equal(strips, tiles)

    def test_three(self, run, fuse, photographs, tmp_path):
        middle = tmp_path / "middle.png"
        Image.fromarray(np.array(Image.open(photographs[1])) // 2 + 30).save(middle)
        out = run(*fuse([*photographs, middle], tmp_path / "fused.png")).stdout
        assert "3 photographs" in out

    def test_orientation_profile_and_exif(self, run, fuse, tmp_path):
        exif = Image.Exif()
        exif[274], exif[271] = 6, "Camera"
        paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
        for path, value in zip(paths, (40, 200), strict=True):
            image = Image.new("RGB", (32, 16), (value, value, value))
            image.save(path, exif=exif.tobytes(), icc_profile=SRGB)
        result = run(*fuse(paths, tmp_path / "fused.jpg"))
        fused = Image.open(tmp_path / "fused.jpg")
        assert fused.size == (16, 32)
        assert fused.getexif()[274] == 1
        assert fused.getexif()[271] == "Camera"
        assert fused.info["icc_profile"] == SRGB
        assert result.stderr == ""

    def test_the_first_profile_is_kept(self, run, fuse, photographs, tmp_path):
        Image.open(photographs[0]).save(photographs[0], icc_profile=SRGB)
        result = run(*fuse(photographs, tmp_path / "fused.png"))
        assert result.stderr == ""
        assert Image.open(tmp_path / "fused.png").info["icc_profile"] == SRGB

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bits_of_a_tiff(self, run, fuse, model, tmp_path, channels):
        tifffile = pytest.importorskip("tifffile")
        paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
        images = [np.uint16(257) * image[..., :channels] for image in scene(230, 311)]
        for path, image in zip(paths, images, strict=True):
            tifffile.imwrite(path, image.squeeze(), photometric="rgb" if channels == 3 else None)
        run(*fuse(paths, tmp_path / "fused.tif", "--compression", "deflate"))
        fused = tifffile.imread(tmp_path / "fused.tif")
        assert fused.dtype == np.uint16 and fused.shape == images[0].squeeze().shape
        expected = fastmef.fuse(images, model, device="cpu").squeeze()
        assert np.array_equal(fused, expected)

    @pytest.mark.parametrize("depth", ["16", "float"])
    def test_more_depth_than_the_photographs(self, run, fuse, model, tmp_path, depth):
        """The picture has levels between those of the 8-bit photographs."""
        tifffile = pytest.importorskip("tifffile")
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        images = scene(230, 311)
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        run(*fuse(paths, tmp_path / "fused.tif", "--depth", depth))
        fused = tifffile.imread(tmp_path / "fused.tif")
        assert fused.dtype == (np.uint16 if depth == "16" else np.float32)
        levels = fused * (255.0 if depth == "float" else 1 / 257)
        assert (levels % 1).std() > 0.1
        error = np.abs(levels - fastmef.fuse(images, model, device="cpu"))
        assert np.quantile(error, 0.9999) <= 0.51

    def test_radiance(self, run, fuse, tmp_path):
        cv2 = pytest.importorskip("cv2")
        pytest.importorskip("OpenEXR")
        radiance = np.exp(4 * scene(230, 311)[1] / 255.0).astype(np.float32)
        paths = [tmp_path / "a.hdr", tmp_path / "b.hdr"]
        for path, scale in zip(paths, (0.02, 0.1), strict=True):
            assert cv2.imwrite(str(path), scale * radiance)
        run(*fuse(paths, tmp_path / "fused.exr"))
        run(*fuse(paths, tmp_path / "fused.jpg"))
        assert (tmp_path / "fused.exr").stat().st_size > 1000
        assert np.array(Image.open(tmp_path / "fused.jpg")).std() > 5

    def test_alpha_is_kept(self, run, fuse, photographs, tmp_path):
        pixels = np.array(Image.open(photographs[0]))
        alpha = np.full((30, 40, 1), 255, np.uint8)
        alpha[:10] = 0
        Image.fromarray(np.concatenate((pixels, alpha), axis=2)).save(tmp_path / "x.png")
        pair = [tmp_path / "x.png", tmp_path / "x.png"]
        run(*fuse(pair, tmp_path / "fused.png"))
        assert np.array_equal(np.array(Image.open(tmp_path / "fused.png"))[..., 3:], alpha)
        run(*fuse([photographs[1], tmp_path / "x.png"], tmp_path / "both.png"))
        both = np.array(Image.open(tmp_path / "both.png"))
        assert (both[..., 3] == 255).all()
        other = np.array(Image.open(photographs[1])).astype(int)
        inner = other[:6, 8:-8]  # the base is as large as the picture, and colour is restored
        assert np.abs(both[:6, 8:-8, :3] - inner).mean() < 8

    def test_force(self, run, fuse, photographs, tmp_path):
        (tmp_path / "fused.png").write_bytes(b"old")
        run(*fuse(photographs, tmp_path / "fused.png", "--force"))
        assert Image.open(tmp_path / "fused.png").size == (40, 30)


class TestRefused:
    """Every refusal prints one line and writes nothing."""

    @pytest.fixture(autouse=True)
    def nothing_written(self, tmp_path):
        yield
        assert not any(path.name.startswith(("fused", ".")) for path in tmp_path.iterdir())

    def pair_with(self, photographs, tmp_path, name, pixels, mode=None, **options):
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(tmp_path / name, **options)
        return [photographs[0], tmp_path / name]

    def test_sizes(self, refused, fuse, photographs, tmp_path):
        pair = self.pair_with(photographs, tmp_path, "wide.png", np.zeros((30, 41, 3), np.uint8))
        line = refused(*fuse(pair, tmp_path / "fused.png"))
        assert "dark.png is 40×30" in line
        assert "wide.png is 41×30" in line

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_few(self, refused, fuse, photographs, tmp_path, count):
        line = refused(*fuse(photographs[:count], tmp_path / "fused.png"))
        assert f"two or more photographs are needed, got {count}" in line

    @pytest.mark.parametrize(
        ("name", "mode", "word"),
        [
            ("x.png", "P", "palette"),
            ("x.jpg", "CMYK", "CMYK"),
        ],
    )
    def test_modes(self, refused, fuse, photographs, tmp_path, name, mode, word):
        pixels = np.zeros((30, 40, 3), np.uint8)
        line = refused(
            *fuse(self.pair_with(photographs, tmp_path, name, pixels, mode), tmp_path / "fused.png")
        )
        assert name in line
        assert word in line
        assert "RGB or grey JPEG, PNG, TIFF" in line

    def test_nan_in_a_floating_point_file(self, refused, fuse, tmp_path):
        for name in ("x.tif", "y.tif"):
            Image.fromarray(np.full((30, 40), np.nan, np.float32)).save(tmp_path / name)
        line = refused(*fuse([tmp_path / "x.tif", tmp_path / "y.tif"], tmp_path / "fused.png"))
        assert "NaN" in line

    def test_more_than_the_memory(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, tmp_path / "fused.png", "--memory", "1MB"))
        assert re.search(r"2 images of 40×30 pixels need \d+ MB of memory, .* --memory", line)

    @pytest.mark.parametrize("size", ["none", "-1GB", "0", "2GBB", "nan"])
    def test_memory(self, refused, fuse, photographs, tmp_path, size):
        line = refused(*fuse(photographs, tmp_path / "fused.png", f"--memory={size}"))
        assert f"memory must be a size such as 2GB or 600MB, got {size!r}" in line

    def test_mode(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, tmp_path / "fused.png", "--mode", "exact"))
        assert "mode must be 'multiscale' for this model, got 'exact'" in line

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--depth", "float"), "the depth of PNG must be one of 8, 16, got 'float'"),
            (("--quality", "80"), "quality is an option of JPEG and WebP, not of PNG"),
            (("--compression", "lzw"), "the compression of PNG must be one of 0, 1, 2"),
        ],
    )
    def test_options_of_the_format(self, refused, fuse, photographs, tmp_path, options, words):
        assert words in refused(*fuse(photographs, tmp_path / "fused.png", *options))

    def test_depths(self, refused, fuse, photographs, tmp_path):
        pair = self.pair_with(photographs, tmp_path, "x.tif", np.zeros((30, 40), np.float32))
        line = refused(*fuse(pair, tmp_path / "fused.png"))
        assert "must have one depth" in line and "x.tif is float32" in line

    def test_no_image(self, refused, fuse, photographs, tmp_path):
        (tmp_path / "x.jpg").write_text("hello")
        line = refused(*fuse([tmp_path / "x.jpg", photographs[1]], tmp_path / "fused.png"))
        assert "x.jpg: not an image" in line

    def test_truncated(self, refused, fuse, photographs, tmp_path):
        data = photographs[1].read_bytes()
        photographs[1].write_bytes(data[: len(data) // 2])
        line = refused(*fuse(photographs, tmp_path / "fused.png"))
        assert "bright.png" in line
        assert "damaged" in line

    def test_missing(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse([tmp_path / "gone.jpg", photographs[1]], tmp_path / "fused.png"))
        assert "gone.jpg: no such file" in line

    def test_folder(self, refused, fuse, photographs, tmp_path):
        assert "a folder" in refused(*fuse([tmp_path, photographs[1]], tmp_path / "fused.png"))

    def test_output_kind(self, refused, fuse, photographs, tmp_path):
        assert ".webp" in refused(*fuse(photographs, tmp_path / "fused.bmp"))

    def test_output_folder(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, tmp_path / "none" / "fused.png"))
        assert "no such folder" in line

    def test_output_unwritable(self, refused, fuse, photographs, tmp_path, monkeypatch):
        def refuse(*_arguments, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
        assert "permission denied" in refused(*fuse(photographs, tmp_path / "fused.png"))

    def test_failure_while_writing(self, refused, fuse, photographs, tmp_path, monkeypatch):
        def fail(descriptor, content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "write_all", fail)
        line = refused(*fuse(photographs, tmp_path / "fused.png"))
        assert "fused.png: no space left on device" in line

    def test_unknown_model(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, tmp_path / "fused.png"), "--model", "no-such-model")
        assert "no-such-model" in line

    def test_corrupt_model(self, refused, fuse, photographs, tmp_path):
        (tmp_path / "net.safetensors").write_bytes(b"damaged" * 30)
        line = refused(
            *fuse(photographs, tmp_path / "fused.png"), "--model", tmp_path / "net.safetensors"
        )
        assert "net.safetensors" in line

    def test_device(self, refused, fuse, photographs, tmp_path):
        line = refused(*fuse(photographs, tmp_path / "fused.png"), "--device", "abacus")
        assert "'abacus' is not available" in line


class TestRefusedBeforeWork:
    """An output that cannot be written is found before the photographs are opened."""

    def test_existing(self, refused, fuse, tmp_path):
        (tmp_path / "fused.png").write_bytes(b"precious")
        line = refused(*fuse(["gone.jpg", "gone.jpg"], tmp_path / "fused.png"))
        assert "fused.png exists already; --force" in line
        assert (tmp_path / "fused.png").read_bytes() == b"precious"

    def test_folder(self, refused, fuse, tmp_path):
        line = refused(*fuse(["gone.jpg", "gone.jpg"], tmp_path / "none" / "fused.png"))
        assert "no such folder" in line

    def test_bad_photographs_are_found_without_torch(self, photographs, tmp_path):
        photographs[1].write_bytes(b"")
        code = (
            "import sys\n"
            "from click.testing import CliRunner\n"
            "from fastmef.cli import main\n"
            f"arguments = {[*map(str, photographs), '-o', str(tmp_path / 'fused.png')]}\n"
            "result = CliRunner().invoke(main, ['fuse', *arguments])\n"
            "sys.exit(result.exit_code == 2 and 'torch' not in sys.modules)\n"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_interrupted(photographs, model, tmp_path):
    """Ctrl-C in the middle of a fusion, in a process of its own."""
    code = (
        "import fastmef.inference.fuser as module, signal, time\n"
        "from fastmef.cli import main\n"
        "def slow(*_, **__):\n"
        "    print('fusing', flush=True)\n"
        "    time.sleep(60)\n"
        "module.fuse_streamed = slow\n"
        # A shell's background jobs, and so their tests, ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"main({['fuse', *map(str, photographs), '-o', str(tmp_path / 'f.png'), '--model', model]})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "fusing\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == "fastmef: stopped\n"
    assert {path.name for path in tmp_path.iterdir()} <= {path.name for path in photographs}
