"""Store the results of a bracket: for each method the picture as PNG, and its scores as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from bench.quality.brackets import Bracket
from fastmef.metrics import SCORES

Image = NDArray[np.uint8]


class Cache:
    """A folder of the results of one bracket. Only one process at a time may write to it."""

    def __init__(self, root: Path, bracket: Bracket) -> None:
        self._folder = root / bracket.folder / bracket.name
        self._folder.mkdir(parents=True, exist_ok=True)

    def image(self, label: str) -> Image | None:
        file = self._file(label, "png")
        return np.array(Picture.open(file).convert("RGB")) if file.exists() else None

    def scores(self, label: str) -> dict[str, float] | None:
        """Return the scores; ``None`` if there are none, or if they lack a column."""
        file = self._file(label, "json")
        if not file.exists() or list(scores := json.loads(file.read_text())) != list(SCORES):
            return None
        return scores

    def put_image(self, label: str, image: Image) -> None:
        """Store a picture, and remove the scores of an earlier one."""
        self._file(label, "json").unlink(missing_ok=True)
        Picture.fromarray(image).save(self._file(label, "png"), compress_level=1)

    def put_scores(self, label: str, scores: dict[str, float]) -> None:
        self._file(label, "json").write_text(json.dumps(scores))

    def remove(self, label: str) -> None:
        for ending in ("png", "json"):
            self._file(label, ending).unlink(missing_ok=True)

    def _file(self, label: str, ending: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', label)}.{ending}"
