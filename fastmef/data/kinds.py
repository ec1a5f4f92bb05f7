"""Which kinds of images are accepted."""

from __future__ import annotations

from PIL import Image

from fastmef.data.damage import Fault, damaged
from fastmef.data.limits import excess_pixels

ALLOWED = "8-bit RGB or grey JPEG, PNG, TIFF or WebP"

_REFUSED_MODES = {
    "1": "a 1-bit",
    "P": "a palette",
    "CMYK": "a CMYK",
    "I": "a 32-bit",
    "F": "a floating-point",
}


def check_kind(image: Image.Image, content: bytes) -> None:
    """Refuse an opened, not yet decoded image that cannot be fused.

    Args:
        image: opened by Pillow.
        content: of its file.

    Raises:
        Fault: it has too many pixels, or is of a kind that :func:`fastmef.data.images.read_image`
            does not read.
    """
    if image.width < 1 or image.height < 1:
        raise damaged("it has no pixels")
    excess = excess_pixels(image.width, image.height, len(content))
    if excess is not None:
        raise Fault(excess)
    refused = _refused_kind(image, content)
    if refused is not None:
        raise Fault(f"{refused} image; allowed: {ALLOWED}")


def _refused_kind(image: Image.Image, content: bytes) -> str | None:
    # Pillow cuts 16-bit colour down to 8 without a word, so the files are asked themselves.
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and (tags.get(254, 0) & 1 or 50706 in tags):
        return "a camera raw"  # what Pillow sees in it is the preview
    bits = _bits(image, content)
    if bits > 8:
        return f"a {bits}-bit"
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA", "RGBX") or "transparency" in image.info:
        return "an alpha-channel (transparent)"
    if image.mode not in ("RGB", "L"):
        return _REFUSED_MODES.get(image.mode, f"a {image.mode}")
    frames = getattr(image, "n_frames", 1) if image.format == "PNG" else 1
    if frames > 1:
        return f"a {frames}-frame"
    return None


def _bits(image: Image.Image, content: bytes) -> int:
    if image.format == "PNG":
        return content[24]  # of IHDR, always the first chunk
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    return 8
