"""Select the EXIF entries of a photograph that are valid for the fused image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation

# Tags that are left out: they describe how the pixels were stored in a TIFF, or hold blocks that
# are kept elsewhere (ICC, XMP, IPTC) or not at all (Photoshop, previews).
_STORAGE = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284)
    + (288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330)
    + (332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519)
    + (520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724, 50341)
)
_IMAGE_WIDTH, _IMAGE_HEIGHT = ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight
_MAKER_NOTE = ExifTags.Base.MakerNote
SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def carried_exif(
    tags: Mapping[int, Any], directories: Mapping[int, Mapping[int, Any]], width: int, height: int
) -> bytes | None:
    """Return the EXIF block for the upright image of ``width`` × ``height``.

    The orientation becomes 1, and the recorded size that of the image. Two entries are left out:
    the thumbnail, which shows another image, and the maker note, whose inner offsets break when it
    moves. ``None`` is returned if no entry is left.

    Args:
        tags: tags of the main directory.
        directories: the EXIF and GPS directories, keyed by the tags that point to them.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
    """
    target = Image.Exif()
    for tag, value in tags.items():
        if tag not in _STORAGE and tag not in SUB_DIRECTORIES and tag != ORIENTATION:
            target[tag] = value
    for directory in SUB_DIRECTORIES:
        entries = dict(directories.get(directory, {}))
        entries.pop(_MAKER_NOTE, None)
        entries.pop(ExifTags.IFD.Interop, None)
        if _IMAGE_WIDTH in entries or _IMAGE_HEIGHT in entries:
            entries[_IMAGE_WIDTH], entries[_IMAGE_HEIGHT] = width, height
        if entries:
            target[directory] = entries
    if len(target) == 0:
        return None
    target[ORIENTATION] = 1
    return target.tobytes()
