"""Compare fusions of a few scenes on one sheet: under | over | mean | OpenCV Mertens | fastmef.

    python docs/make_contact_sheet.py PAIRS_DIR

This writes docs/contact_sheet.jpg from the scenes that --scenes names, or from eight equally spaced
scenes of PAIRS_DIR. Every scene is fused at full size and reduced afterwards. PAIRS_DIR may be a
folder that examples/render_exposures.py has written. The script needs
``pip install opencv-python-headless``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import fastmef
from fastmef.data.pairs import Scene, find_scenes
from fastmef.inference.simple import mertens, plain_mean

CELL = 300  # largest width and height of a picture
GAP = 6
HEADER = 30
SCENES = 8
COLUMNS = ("under", "over", "mean", "OpenCV Mertens", "fastmef")


def pictures(scene: Scene, model: str) -> list[NDArray[np.uint8]]:
    """Return the pictures of one row, in the order of COLUMNS."""
    exposures = [np.asarray(Image.open(path).convert("RGB")) for path in scene.images]
    opencv = mertens(exposures)
    if opencv is None:
        raise SystemExit("OpenCV is missing: pip install opencv-python-headless")
    fused = fastmef.fuse(exposures, model=model)
    return [exposures[0], exposures[-1], plain_mean(exposures), opencv, fused]


def thumbnails(row: Sequence[NDArray[np.uint8]]) -> list[Image.Image]:
    images = [Image.fromarray(picture) for picture in row]
    for image in images:
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return images


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Arrange rows below a line of column names; each row is as high as its pictures."""
    heights = [row[0].height for row in rows]
    size = (len(COLUMNS) * (CELL + GAP) + GAP, HEADER + sum(heights) + GAP * len(heights))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=17)
    left = [GAP + i * (CELL + GAP) for i in range(len(COLUMNS))]
    for x, name in zip(left, COLUMNS, strict=True):
        draw.text((x + CELL // 2, HEADER // 2), name, fill="black", font=font, anchor="mm")
    y = HEADER
    for row, height in zip(rows, heights, strict=True):
        for x, image in zip(left, row, strict=True):
            page.paste(image, (x + (CELL - image.width) // 2, y))
        y += height + GAP
    return page


def chosen(scenes: Sequence[Scene], names: Sequence[str] | None) -> list[Scene]:
    """Return the named scenes, or equally spaced ones if no names are given."""
    if not names:
        count = min(SCENES, len(scenes))
        return [scenes[i * len(scenes) // count] for i in range(count)]
    by_name = {scene.name: scene for scene in scenes}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise SystemExit(f"no such scene: {', '.join(missing)}")
    return [by_name[name] for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pairs", type=Path, help="folder with one folder per scene")
    parser.add_argument("--scenes", nargs="+", metavar="NAME", help="scenes, from top to bottom")
    parser.add_argument("--model", default="default", help="pretrained name or weights file")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).with_name("contact_sheet.jpg")
    )
    args = parser.parse_args()

    rows = []
    for scene in chosen(find_scenes(args.pairs), args.scenes):
        print(scene.name)
        rows.append(thumbnails(pictures(scene, args.model)))
    page = sheet(rows)
    page.save(args.output, quality=88, subsampling=0, optimize=True)
    print(f"{args.output}: {page.width}x{page.height}, {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
