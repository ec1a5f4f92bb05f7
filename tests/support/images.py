"""A small photograph in all supported encodings, and ways to damage it."""

from __future__ import annotations

import io
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ENDINGS = {"jpeg": "jpg", "png": "png", "tiff": "tif", "webp": "webp"}
_COLUMNS = ((0, 8), (4, 8), (0, 4), (2, 4), (0, 2), (1, 2), (0, 1))
_ROWS = ((0, 8), (0, 8), (4, 8), (0, 4), (2, 4), (0, 2), (1, 2))


def picture(height: int = 37, width: int = 45) -> np.ndarray:
    """Return an image of smooth areas and noise, (H, W, 3) uint8."""
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    ramp = np.linspace(20, 230, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    return np.clip(ramp + 12 * noise, 0, 255).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG with the right checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(pixels: np.ndarray, compressed: bytes | None = None, interlaced: bool = False) -> bytes:
    """Return a PNG without filters; ``compressed`` replaces its image data."""
    height, width = pixels.shape[:2]
    passes = zip(_COLUMNS, _ROWS, strict=True) if interlaced else [((0, 1), (0, 1))]
    rows = [
        b"\0" + row.tobytes()
        for (left, across), (top, down) in passes
        for row in pixels[top::down, left::across]
        if row.size
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    data = zlib.compress(b"".join(rows)) if compressed is None else compressed
    half = len(data) // 2
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data[:half])
        + chunk(b"IDAT", data[half:]) + chunk(b"IEND", b"")
    )  # fmt: skip


def encodings() -> dict[str, bytes]:
    """Return name → content; names begin with the format."""
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Camera"
    exif[0x8769] = {33434: (1, 125), 36867: "2024:05:06 07:08:09"}
    embedded = {"exif": exif.tobytes(), "icc_profile": SRGB}
    variants: dict[str, dict] = {
        "jpeg": {"quality": 90},
        "jpeg 4:2:0 with metadata": {"subsampling": 2, **embedded},
        "jpeg progressive": {"progressive": True},
        "jpeg grey": {"mode": "L"},
        "jpeg with restarts": {"restart_marker_rows": 1},
        "png": {},
        "png grey with metadata": {"mode": "L", "exif": exif.tobytes()},
        "png with metadata": embedded,
        "tiff": {},
        "tiff with metadata": embedded,
        "tiff lzw": {"compression": "tiff_lzw"},
        "tiff deflate": {"compression": "tiff_adobe_deflate"},
        "tiff packbits": {"compression": "packbits"},
        "tiff jpeg": {"compression": "jpeg", "strip_size": 1 << 20},
        "tiff grey": {"mode": "L"},
        "webp": {"quality": 90},
        "webp lossless": {"lossless": True},
        "webp with metadata": embedded,
    }
    contents = {"png interlaced": png(picture(), interlaced=True)}
    for name, options in variants.items():
        options = dict(options)
        image = Image.fromarray(picture()).convert(options.pop("mode", "RGB"))
        file = io.BytesIO()
        image.save(file, name.split()[0].upper(), **options)
        contents[name] = file.getvalue()
    return contents


def deep_encodings() -> dict[str, bytes]:
    """Return name → content for images with alpha, of 16 bits, in floating point or HDR.

    Encodings whose package is not installed are left out.
    """
    contents: dict[str, bytes] = {}
    try:
        import imagecodecs
        import tifffile

        deep = picture().astype(np.uint16) * 257
        single = picture().astype(np.float32) / 255
        masked = np.dstack([deep, np.full(deep.shape[:2], 65535, np.uint16)])
        variants = {
            "tiff 16-bit": (deep, {"rowsperstrip": 9}),
            "tiff 16-bit big": (deep, {"rowsperstrip": 9, "bigtiff": True, "byteorder": ">"}),
            "tiff 16-bit alpha": (masked, {"extrasamples": ["unassalpha"], "compression": "lzw"}),
            "tiff 16-bit deflate": (deep, {"compression": "zlib", "predictor": True}),
            "tiff 16-bit lzw tiles": (deep, {"compression": "lzw", "tile": (16, 32)}),
            "tiff 16-bit zstd": (deep, {"compression": "zstd", "predictor": True}),
            "tiff 16-bit packbits": (deep, {"compression": "packbits", "rowsperstrip": 9}),
            "tiff float": (single, {"rowsperstrip": 9}),
            "tiff float deflate": (single, {"compression": "zlib", "predictor": True}),
            "tiff half": (single.astype(np.float16), {"compression": "zstd"}),
        }
        for name, (pixels, options) in variants.items():
            file = io.BytesIO()
            tifffile.imwrite(file, pixels, photometric="rgb", **options)
            contents[name] = file.getvalue()
        contents["png 16-bit"] = imagecodecs.png_encode(deep)
        contents["png 16-bit alpha"] = imagecodecs.png_encode(masked)
        contents["png 8-bit alpha"] = imagecodecs.png_encode((masked // 257).astype(np.uint8))
    except ImportError:
        pass
    try:
        import cv2
        import OpenEXR

        light = picture().astype(np.float32) / 255 * 8
        contents["hdr"] = cv2.imencode(".hdr", light[..., ::-1])[1].tobytes()
        with tempfile.TemporaryDirectory() as folder:
            for name, method in (("zip", "ZIP"), ("piz", "PIZ"), ("half dwaa", "DWAA")):
                pixels = light.astype(np.float16) if "half" in name else light
                compression = getattr(OpenEXR, f"{method}_COMPRESSION")
                header = {"type": OpenEXR.scanlineimage, "compression": compression}
                path = Path(folder) / "a.exr"
                OpenEXR.File(header, {"RGB": pixels}).write(str(path))
                contents[f"exr {name}"] = path.read_bytes()
    except ImportError:
        pass
    return contents


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))


def _set_number(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((2, 4))
    start = rng.randrange(max(1, min(len(data) - size, 400)))
    value = rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    value &= (1 << 8 * size) - 1
    data[start : start + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 50)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randrange(1, 50)]


def _zero(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    size = min(rng.randrange(1, 50), len(data) - start)
    data[start : start + size] = bytes(size)


def _insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randrange(1, 50))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _flip, _set, _set_number, _cut, _remove, _repeat, _zero, _insert,
)  # fmt: skip


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to four random faults."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(DAMAGES)(data, rng)
    return bytes(data)
