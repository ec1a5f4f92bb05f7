"""Fixtures with photographs and HDR files so small that an experiment takes seconds."""

from __future__ import annotations

import numpy as np
import pytest
from photographs import photographs

from fastmef.data.images import write_image
from fastmef.experiments import Budget

FAMILIES = ("lake", "town")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Write 16 pairs of two families and four HDR files; return their folder."""
    cv2 = pytest.importorskip("cv2", reason="HDR files are written and read with OpenCV")
    root = tmp_path_factory.mktemp("data")
    for family in FAMILIES:
        for number in range(8):
            folder = root / "pairs" / f"{family}_{number}"
            folder.mkdir(parents=True)
            images = photographs(32, 48, 2, seed=number)
            for name, pixels in zip(("under", "over"), images, strict=True):
                write_image(folder / f"{name}.png", pixels)
    (root / "hdr").mkdir()
    for number, name in enumerate("abcd"):
        y, x = np.mgrid[0:40, 0:56] / 56
        texture = np.random.default_rng(number).uniform(0.7, 1.3, (40, 56, 3))
        radiance = np.float32(np.exp(6 * x - 3 * y)[..., None] * texture)
        assert cv2.imwrite(str(root / "hdr" / f"{name}.hdr"), radiance)
    return root


@pytest.fixture(scope="session")
def tiny():
    return Budget(
        steps=2, width=2, patch=16, batch_size=1, seeds=2, side=48, scenes=2, descent_steps=2
    )
