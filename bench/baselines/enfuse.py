"""Exposure fusion by enfuse (Debian's package of that name), with its default options."""

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
    """Say why enfuse cannot run here; ``None`` where it can."""
    return None if shutil.which("enfuse") else "no program named enfuse (apt install enfuse)"


def enfuse(images: Sequence[Image]) -> Image:
    """Fuse two or more aligned exposures ``(H, W, 3)`` RGB, uint8; the result is likewise.

    Raises:
        RuntimeError: enfuse is missing, or fails; the message has what it printed.
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
