"""Contact sheets with the pictures of several methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.quality import methods
from bench.quality.brackets import Bracket
from bench.quality.cache import Cache
from bench.quality.scoring import Settings
from fastmef.data.images import write_image
from fastmef.data.sheet import contact_sheet

PAIRS = 20
WIDTH = 720  # width of each picture in pixels
PER_ROW = 2
OTHERS = (methods.MERTENS, methods.FMMEF)


def chosen_pairs(pairs: Sequence[Bracket]) -> list[Bracket]:
    """Return at most PAIRS equally spaced validation pairs."""
    count = min(PAIRS, len(pairs))
    return [pairs[k] for k in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def write_sheet(settings: Settings, bracket: Bracket, folder: Path) -> None:
    """Write a sheet with the darkest and brightest frame, Mertens, FMMEF and the models."""
    labels = [methods.DARKEST, methods.BRIGHTEST, *OTHERS, *settings.cached, *settings.models]
    cache = Cache(settings.cache, bracket)
    tiles = [(label, image) for label in labels if (image := cache.image(label)) is not None]
    rows = [tiles[k : k + PER_ROW] for k in range(0, len(tiles), PER_ROW)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{bracket.folder}_{bracket.scene}.jpg"
    write_image(file, contact_sheet(rows, WIDTH), force=True)
