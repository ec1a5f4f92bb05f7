"""A small folder of real-looking exposure pairs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Four scenes of 48x40: smooth random radiance, clipped at two exposures."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for name in "abcd":
        coarse = random.normal(size=(6, 5, 3)).repeat(8, 0).repeat(8, 1)
        radiance = np.exp(1.5 * coarse + 0.3 * random.normal(size=(48, 40, 3)))
        (folder / name).mkdir()
        for label, gain in (("under", 0.1), ("over", 1.0)):
            pixels = (255 * np.clip(radiance * gain, 0, 1) ** (1 / 2.2)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{label}.png")
    return folder
