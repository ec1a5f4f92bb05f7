"""Fixtures with small folders of realistic exposure sets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


def light(random):
    """Return smooth random radiance of 48x40 pixels."""
    coarse = random.normal(size=(6, 5, 3)).repeat(8, 0).repeat(8, 1)
    return np.exp(1.5 * coarse + 0.3 * random.normal(size=(48, 40, 3)))


def write(path, radiance, gain):
    path.parent.mkdir(exist_ok=True)
    pixels = (255 * np.clip(radiance * gain, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Write four scenes of two clipped exposures; return their folder."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for name in "abcd":
        radiance = light(random)
        for label, gain in (("under", 0.1), ("over", 1.0)):
            write(folder / name / f"{label}.png", radiance, gain)
    return folder


@pytest.fixture(scope="session")
def stacks(tmp_path_factory):
    """Write scenes of 6 and of 4 exposures, whose names do not follow their brightness."""
    folder = tmp_path_factory.mktemp("stacks")
    random = np.random.default_rng(1)
    for name, count in (("long", 6), ("short", 4)):
        radiance = light(random)
        for k, gain in enumerate(np.geomspace(0.02, 3, count)):
            write(folder / name / f"{(k * 5) % 7}.png", radiance, gain)
    return folder


@pytest.fixture(scope="session")
def hdr(tmp_path_factory):
    """Write one Radiance HDR file; return its folder."""
    cv2 = pytest.importorskip("cv2", reason="HDR files are written and read with OpenCV")
    folder = tmp_path_factory.mktemp("hdr")
    radiance = light(np.random.default_rng(2)).astype(np.float32)
    assert cv2.imwrite(str(folder / "room.hdr"), radiance)
    return folder
