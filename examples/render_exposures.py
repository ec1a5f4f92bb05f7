"""Render under- and over-exposed pairs from a folder of HDR files.

    python examples/render_exposures.py HDR_DIR PAIRS_DIR

This writes PAIRS_DIR/<scene>/{under,over}.jpg, the layout that ``fastmef train`` reads. A file that
is twice as wide as high is taken for a 360-degree panorama and gives several perspective views. The
script needs ``pip install 'fastmef[hdr]'``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastmef.data.panorama import perspective_view
from fastmef.data.radiance import RADIANCE_ENDINGS, read_radiance, reduce_area
from fastmef.data.render import auto_exposures, render_exposures


def fitted(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Reduce an image to fit into width x height by averaging linear light; never enlarge it."""
    scale = min(width / image.shape[1], height / image.shape[0], 1)
    return reduce_area(image, round(image.shape[0] * scale), round(image.shape[1] * scale))


def scenes(path: Path, args: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and radiance of every scene of a file."""
    image = read_radiance(path)
    if image.shape[1] != 2 * image.shape[0]:
        yield path.stem, fitted(image, args.width, args.height)
        return
    for n in range(args.views):
        yaw = 360 * n / args.views
        view = perspective_view(image, yaw, args.pitch, args.fov, args.width, args.height)
        yield f"{path.stem}_{round(yaw):03d}", view


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder of .hdr and .exr files")
    parser.add_argument("target", type=Path, help="folder the scenes are written to")
    parser.add_argument("--views", type=int, default=4, help="views around each panorama (4)")
    parser.add_argument("--pitch", type=float, default=0, help="pitch of views, degrees (0)")
    parser.add_argument("--fov", type=float, default=90, help="field of view, degrees (90)")
    parser.add_argument("--width", type=int, default=600, help="largest width (600)")
    parser.add_argument("--height", type=int, default=400, help="largest height (400)")
    args = parser.parse_args()

    if not args.source.is_dir():
        parser.error(f"no such folder: {args.source}")
    files = sorted(p for p in args.source.iterdir() if p.suffix.lower() in RADIANCE_ENDINGS)
    if not files:
        parser.error(f"no .hdr or .exr files in {args.source}")
    for path in files:
        for name, radiance in scenes(path, args):
            evs = auto_exposures(radiance)
            folder = args.target / name
            folder.mkdir(parents=True, exist_ok=True)
            for stem, frame in zip(("under", "over"), render_exposures(radiance, evs), strict=True):
                Image.fromarray(frame).save(folder / f"{stem}.jpg", quality=95, subsampling=0)
            print(f"{name}: {frame.shape[1]}x{frame.shape[0]}, {evs[0]:+.2f} and {evs[1]:+.2f} EV")


if __name__ == "__main__":
    main()
