"""What a photograph's file says about it, beside its pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """What goes from the first photograph of a bracket into the fused file.

    It describes the upright image: the orientation is applied and set to 1.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None
    """Pixels per inch, horizontal and vertical."""
    exposure_scale: float = 1.0
    """What scene-linear radiance was multiplied by before it was encoded (see ``linear.py``)."""
