"""The brackets of the comparison: which are held back, how stacks are thinned and HDR rendered."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="HDR files are read with OpenCV")

from bench.quality import brackets  # noqa: E402
from fastmef.data.images import write_image  # noqa: E402
from fastmef.data.render import render_exposures, srgb_decode  # noqa: E402


def test_thinnings_keep_both_ends():
    frames = list(range(10))
    assert brackets.thin(frames, 3) == [0, 4, 9]
    assert brackets.thin(frames, 9)[0] == 0 and brackets.thin(frames, 9)[-1] == 9
    assert len(set(brackets.thin(frames, 9))) == 9
    assert brackets.thin(frames, 10) == brackets.thin(frames, 15) == frames


def luma(image):
    return image @ np.array([0.298936, 0.587043, 0.114021])


@pytest.mark.parametrize(("deviation", "stops"), [(1, None), (0, 2), (8, 12)])
def test_exposures_cover_the_radiance(deviation, stops):
    """``deviation`` is that of the logarithm; without ``stops``, neither limit is reached."""
    radiance = 0.1 * np.exp(deviation * np.random.default_rng(0).normal(size=(80, 90, 1)))
    radiance = np.repeat(radiance, 3, axis=2)
    evs = brackets.exposure_values(radiance, 5)
    assert np.allclose(np.diff(evs), np.diff(evs)[0])
    darkest, brightest = (
        srgb_decode(frame / 255) for frame in render_exposures(radiance, (evs[0], evs[-1]))
    )
    assert np.percentile(luma(darkest), 97) == pytest.approx(0.9, abs=0.01)
    if stops is None:
        assert 2 < evs[-1] - evs[0] < 12
        assert np.percentile(luma(brightest), 3) == pytest.approx(0.35, abs=0.01)
    else:
        assert evs[-1] - evs[0] == pytest.approx(stops)


@pytest.fixture
def data(tmp_path):
    """Nine pairs, one stack that is held out and one that is not; frames are not in order."""
    for n in range(9):
        for name, level in (("under", 40), ("over", 200)):
            (tmp_path / "pairs" / f"p{n}").mkdir(parents=True, exist_ok=True)
            write_image(
                tmp_path / "pairs" / f"p{n}" / f"{name}.png", np.full((8, 8, 3), level, np.uint8)
            )
    for scene in ("temple_night", "another"):
        (tmp_path / "stacks" / scene).mkdir(parents=True)
        for k, level in enumerate((200, 50, 100, 150, 10, 30, 70)):
            write_image(
                tmp_path / "stacks" / scene / f"{k}.png", np.full((8, 8, 3), level, np.uint8)
            )
    return tmp_path


def test_what_is_compared(data):
    assert [pair.scene for pair in brackets.validation_pairs(data)] == ["p0", "p8"]
    assert [stack.count for stack in brackets.stacks(data)] == [7, 7]
    names = [bracket.name for bracket in brackets.held_out(data)]
    assert [name for name in names if not name.split("/")[0].endswith((".hdr", ".exr"))] == [
        "temple_night/3",
        "temple_night/5",
        "temple_night/7",
    ]
    for name in brackets.HELD_OUT_HDR:
        assert [x for x in names if x.startswith(name)] == [
            f"{name}/{k}" for k in (3, 5, 9, 15, 30)
        ]


def test_frames_come_from_dark_to_bright(data):
    bracket = brackets.Bracket("stacks", "temple_night", 3)
    assert [int(frame[0, 0, 0]) for frame in bracket.frames(data)] == [10, 70, 200]


def test_an_hdr_file_is_rendered_and_thinned(tmp_path):
    import cv2

    (tmp_path / "hdr").mkdir()
    radiance = np.exp(np.random.default_rng(0).normal(size=(20, 40, 3))).astype(np.float32)
    cv2.imwrite(str(tmp_path / "hdr" / "a.hdr"), radiance)
    frames = brackets.Bracket("hdr", "a.hdr", 30).frames(tmp_path)
    thinned = brackets.Bracket("hdr", "a.hdr", 3).frames(tmp_path)
    assert len(frames) == 30 and frames[0].shape == (20, 40, 3)
    assert (np.diff([frame.mean() for frame in frames]) > 0).all()
    for k, frame in zip((0, 14, 29), thinned, strict=True):
        assert (frame == frames[k]).all()
