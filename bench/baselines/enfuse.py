"""Exposure fusion with enfuse (Debian's package of that name) and its default options."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

Image = NDArray[np.uint8]


def missing() -> str | None:
    """Say why enfuse cannot run here; ``None`` if it can."""
    return None if shutil.which("enfuse") else "no program named enfuse (apt install enfuse)"


def enfuse(images: Sequence[Image]) -> Image:
    """Fuse two or more aligned RGB exposures ``(H, W, 3)``, uint8, to an image of the same kind.

    Raises:
        RuntimeError: enfuse is missing or fails; the message contains its output.
    """
    if (reason := missing()) is not None:
        raise RuntimeError(reason)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for k, image in enumerate(images):
            files.append(str(Path(folder, f"{k:02}.tif")))
            Picture.fromarray(image).save(files[-1])
        result = Path(folder, "fused.tif")
        process = subprocess.run(
            ["enfuse", f"--output={result}", *files], capture_output=True, text=True
        )
        if process.returncode or not result.exists():
            raise RuntimeError(f"enfuse failed: {(process.stdout + process.stderr).strip()}")
        with Picture.open(result) as picture:
            return np.array(picture.convert("RGB"))
