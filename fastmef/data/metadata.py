"""Read the metadata of a photograph: EXIF, XMP, IPTC, colour profile, resolution."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from fastmef.data.damage import Fault
from fastmef.data.directories import exif_is_bounded
from fastmef.data.exif import SUB_DIRECTORIES, carried_exif
from fastmef.data.limits import MAX_PROFILE

ORIENTATION = ExifTags.Base.Orientation

_IPTC_BLOCK = 0x0404  # number of IPTC among Photoshop's image resources
_XMP_ORIENTATION = re.compile(
    rb"(tiff:Orientation\s*=\s*[\"']|<tiff:Orientation>)\s*[2-8]\s*(?=[\"']|</tiff:Orientation>)"
)
_COLOR_SPACES = {1: b"GRAY", 3: b"RGB "}


@dataclass(frozen=True)
class Metadata:
    """The metadata of the first photograph of a bracket, which the fused file gets.

    They describe the upright image: the orientation is applied and set to 1.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None
    """Pixels per inch, horizontal and vertical."""
    exposure_scale: float = 1.0
    """Factor of scene-linear radiance before it was encoded; see :mod:`fastmef.data.linear`."""


@dataclass(frozen=True)
class Embedded:
    """The metadata as stored in a file, before the image is turned upright."""

    orientation: int
    tags: Mapping[int, Any]
    """Main directory of the EXIF block, or of a TIFF."""
    directories: Mapping[int, Mapping[int, Any]]
    info: Mapping[str, Any]
    """Entries that Pillow finds: ``icc_profile``, ``xmp``, ``dpi``, ``photoshop``."""

    def upright(self, width: int, height: int, channels: int) -> Metadata:
        """Return the metadata of the upright image with these sides.

        A colour profile for another number of channels is dropped.

        Raises:
            Fault: the colour profile is too large.
        """
        try:
            exif = carried_exif(self.tags, self.directories, width, height)
        except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
            exif = None
        return Metadata(
            icc_profile=_profile(self.info.get("icc_profile"), channels),
            exif=exif,
            xmp=_xmp(self.info.get("xmp")),
            iptc=_iptc(self.info),
            resolution=_resolution(self.info.get("dpi"), turned=self.orientation >= 5),
        )


def embedded(image: Image.Image) -> Embedded:
    """Return the metadata of an image that Pillow has opened; damaged EXIF is left out."""
    exif = _load_exif(image)
    directories = {int(tag): dict(exif.get_ifd(tag)) for tag in SUB_DIRECTORIES}
    info = {str(name): value for name, value in image.info.items()}
    return Embedded(orientation(exif), dict(exif), directories, info)


def orientation(tags: Mapping[int, Any]) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or has another value."""
    value = tags.get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _load_exif(image: Image.Image) -> Image.Exif:
    """Load all directories of the EXIF block; return an empty one if it is damaged."""
    try:
        if not exif_is_bounded(image.info.get("exif", b"")):
            return Image.Exif()
        exif = image.getexif()
        for directory in SUB_DIRECTORIES:
            exif.get_ifd(directory)
        dict(exif)
        return exif
    except Exception:  # damaged EXIF fails in any way, and must not cost the photograph
        return Image.Exif()


def _profile(profile: object, channels: int) -> bytes | None:
    """Return the colour profile if it is for this number of channels, otherwise ``None``."""
    if not isinstance(profile, bytes):
        return None
    if len(profile) > MAX_PROFILE:
        raise Fault(f"a colour profile of more than {MAX_PROFILE:,} bytes")
    return profile if profile[16:20] == _COLOR_SPACES[channels] else None


def _xmp(packet: object) -> bytes | None:
    """Return the XMP packet with its orientation set to 1."""
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or not packet.strip(b"\0 "):
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def _iptc(info: Mapping[str, Any]) -> bytes | None:
    """Return the IPTC record, which JPEG keeps among the resources of Photoshop."""
    block = info.get("iptc")
    if block is None and isinstance(info.get("photoshop"), dict):
        block = info["photoshop"].get(_IPTC_BLOCK)
    return block if isinstance(block, bytes) and block.startswith(b"\x1c") else None


def _resolution(dpi: object, turned: bool) -> tuple[float, float] | None:
    """Return the pixels per inch of the upright image if they are plausible for a printer."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(across + down) and 1 <= across <= 1e5 and 1 <= down <= 1e5):
        return None
    return (down, across) if turned else (across, down)
