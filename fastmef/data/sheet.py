"""Arrange pictures side by side, with a line of text above each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GAP = 12
_TEXT_HEIGHT = 20
_PAPER, _INK = (255, 255, 255), (0, 0, 0)


def contact_sheet(
    rows: Sequence[Sequence[tuple[str, NDArray[np.uint8]]]], width: int = 480
) -> NDArray[np.uint8]:
    """Arrange many pictures in one.

    Args:
        rows: rows of ``(label, pixels)`` with pixels ``(H, W, 3)`` or grey ``(H, W)``, uint8. The
            pictures of a row have one size.
        width: largest width of a picture in the sheet; larger ones are reduced to it.

    Returns:
        The sheet, ``(H, W, 3)``, uint8.
    """
    tiles = [[_tile(label, pixels, width) for label, pixels in row] for row in rows]
    columns = [
        max(row[i].width for row in tiles if i < len(row)) for i in range(max(map(len, tiles)))
    ]
    heights = [max(tile.height for tile in row) for row in tiles]
    size = (sum(columns) + _GAP * (len(columns) + 1), sum(heights) + _GAP * (len(heights) + 1))
    sheet = Image.new("RGB", size, _PAPER)
    top = _GAP
    for row, height in zip(tiles, heights, strict=True):
        left = _GAP
        for tile, column in zip(row, columns, strict=False):
            sheet.paste(tile, (left, top))
            left += column + _GAP
        top += height + _GAP
    return np.array(sheet)


def _tile(label: str, pixels: NDArray[np.uint8], width: int) -> Image.Image:
    """Return a picture of at most ``width`` pixels across, with its label above."""
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
    font = ImageFont.load_default(_TEXT_HEIGHT * 0.75)
    space = max(picture.width, round(font.getlength(label)))
    tile = Image.new("RGB", (space, _TEXT_HEIGHT + picture.height), _PAPER)
    ImageDraw.Draw(tile).text((0, 0), label, _INK, font)
    tile.paste(picture, (0, _TEXT_HEIGHT))
    return tile
