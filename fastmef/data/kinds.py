"""Check which kinds of images are accepted."""

from __future__ import annotations

from PIL import Image

from fastmef.data.damage import Fault, damaged
from fastmef.data.limits import excess_pixels

ALLOWED = "RGB or grey JPEG, PNG, TIFF, WebP, OpenEXR or Radiance HDR"

_REFUSED_MODES = {
    "1": "a 1-bit",
    "P": "a palette",
    "PA": "a palette",
    "CMYK": "a CMYK",
    "I": "a 32-bit integer",
}


def refuse(what: str) -> Fault:
    """Return the fault of an unsupported kind of image, such as ``"a CMYK"``."""
    return Fault(f"{what} image; allowed: {ALLOWED}")


def check_size(width: int, height: int, size: int) -> None:
    """Check the sides of an image in a file of ``size`` bytes.

    Raises:
        Fault: the image is empty or too large.
    """
    if width < 1 or height < 1:
        raise damaged("it has no pixels")
    excess = excess_pixels(width, height, size)
    if excess is not None:
        raise Fault(excess)


def check_kind(image: Image.Image, size: int) -> None:
    """Check that an 8-bit image can be fused, before it is decoded.

    Args:
        image: an image that Pillow has opened.
        size: size of its file in bytes.

    Raises:
        Fault: the image has too many pixels, or is of a kind that fastmef does not read.
    """
    check_size(image.width, image.height, size)
    if image.mode not in ("RGB", "L", "RGBA", "LA"):
        raise refuse(_REFUSED_MODES.get(image.mode, f"a {image.mode}"))
