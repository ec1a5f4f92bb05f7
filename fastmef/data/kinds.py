"""Which kinds of image files are accepted."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fastmef.data.files import display
from fastmef.errors import InputError

ALLOWED = "8-bit RGB or grey JPEG, PNG, TIFF or WebP"
MAX_PIXELS = 500_000_000  # above every camera's largest frame; Pillow's own limit is 89 million

_REFUSED_MODES = {
    "1": "a 1-bit",
    "P": "a palette",
    "CMYK": "a CMYK",
    "I": "a 32-bit",
    "F": "a floating-point",
}


def check_kind(image: Image.Image, head: bytes, path: Path) -> None:
    """Refuse an opened, not yet decoded image of a kind that cannot be fused.

    Args:
        image: from :func:`PIL.Image.open`.
        head: the first 25 bytes of its file.
        path: for the message.

    Raises:
        InputError: see :func:`fastmef.data.images.read_image`.
    """
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{display(path)}: {image.width}×{image.height} pixels; at most"
            f" {MAX_PIXELS // 10**6} million are allowed"
        )
    refused = _refused_kind(image, head)
    if refused is not None:
        raise InputError(f"{display(path)}: {refused} image; allowed: {ALLOWED}")


def _refused_kind(image: Image.Image, head: bytes) -> str | None:
    # Pillow cuts 16-bit colour down to 8 without a word, so the files are asked themselves.
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and (tags.get(254, 0) & 1 or 50706 in tags):
        return "a camera raw"  # what Pillow sees in it is the preview
    bits = _bits(image, head)
    if bits > 8:
        return f"a {bits}-bit"
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA", "RGBX") or "transparency" in image.info:
        return "an alpha-channel (transparent)"
    if image.mode not in ("RGB", "L"):
        return _REFUSED_MODES.get(image.mode, f"a {image.mode}")
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        return f"a {frames}-page or {frames}-frame"
    return None


def _bits(image: Image.Image, head: bytes) -> int:
    if image.format == "PNG":
        return head[24]  # of IHDR, always the first chunk
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    return 8
