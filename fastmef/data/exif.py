"""What of a photograph's EXIF still holds for the fused image."""

from __future__ import annotations

from PIL import ExifTags, Image

ORIENTATION = ExifTags.Base.Orientation

# Tags that describe how the pixels were stored in a TIFF, and blocks kept elsewhere (ICC) or not
# at all (XMP, IPTC, Photoshop, previews).
_STORAGE = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284)
    + (288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330)
    + (332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519)
    + (520, 521, 529, 530, 531, 532, 700, 33723, 34377, 34675, 37724, 50341)
)
_IMAGE_WIDTH, _IMAGE_HEIGHT = ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight
_MAKER_NOTE = ExifTags.Base.MakerNote
_SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)


def carried_exif(source: Image.Exif, width: int, height: int) -> bytes | None:
    """The EXIF block for an upright image of ``width`` × ``height`` made from ``source``'s.

    Orientation becomes 1 and the recorded size the real one. Left out are the thumbnail, which
    shows another image, and the maker's private note, whose inner offsets break when it moves.
    ``None`` when nothing was recorded.
    """
    target = Image.Exif()
    for tag in source:
        if tag not in _STORAGE and tag not in _SUB_DIRECTORIES and tag != ORIENTATION:
            target[tag] = source[tag]
    for directory in _SUB_DIRECTORIES:
        entries = {tag: value for tag, value in source.get_ifd(directory).items()}
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
