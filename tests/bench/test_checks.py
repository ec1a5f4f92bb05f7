"""Every requirement passes on a result that meets it, and fails alone when only it is missed."""

from __future__ import annotations

import pytest

pytest.importorskip("cv2", reason="bench.quality compares with OpenCV")

from bench.quality.checks import check_brackets, check_pairs, check_robustness  # noqa: E402

GOOD = {
    "ma2015_3_scales": 0.992,
    "ma2015_1_scale": 0.996,
    "mefnet": 0.96,
    "color2018": 0.955,
    "saturation": 0.32,
    "brightness": 110.0,
    "near_white": 2.0,
}
WORSE = {
    "ma2015_3_scales": 0.98,
    "ma2015_1_scale": 0.98,
    "mefnet": 0.9,
    "color2018": 0.9,
    "saturation": 0.3,
    "brightness": 105.0,
    "near_white": 1.0,
}
OTHERS = ("OpenCV Mertens", "FMMEF", "enfuse")


@pytest.fixture
def records():
    """Two scenes of two brackets each: everything holds."""
    return {
        name: {"new": dict(GOOD), **{label: dict(WORSE) for label in OTHERS}}
        for name in ("a/3", "a/30", "b.hdr/3", "b.hdr/9")
    }


def failures(checks):
    return [check.text for check in checks if not check.passed]


def test_good_results_pass(records):
    assert failures(check_pairs("new", records)) == []
    assert failures(check_brackets("new", records)) == []
    assert str(next(check_pairs("new", records))).startswith("PASS  pairs, ma2015_3_scales: 0.99")


@pytest.mark.parametrize("column", list(GOOD)[:5])
def test_goals_of_pairs(records, column):
    for scores in records.values():
        scores["new"][column] = 0.5 * (GOOD[column] + WORSE[column]) - 0.005
    (text,) = failures(check_pairs("new", records))
    assert column in text and ">=" in text
    for scores in records.values():
        scores["FMMEF"][column] = 0.999
    assert len(failures(check_pairs("new", records))) == 2


@pytest.mark.parametrize("column", ["ma2015_3_scales", "mefnet", "color2018"])
def test_means_of_brackets(records, column):
    for scores in records.values():
        scores["FMMEF"][column] = 0.999
    (text,) = failures(check_brackets("new", records))
    assert column in text and "FMMEF" in text


def test_above_mertens_on_every_bracket(records):
    records["a/30"]["OpenCV Mertens"]["ma2015_3_scales"] = 0.9925
    (text,) = failures(check_brackets("new", records))
    assert "every one" in text and "worst -0.0005" in text
    assert "(a/30); 1 of 4 fail" in text


def test_goal_of_brackets(records):
    for scores in records.values():
        scores["new"]["ma2015_3_scales"] = 0.987
    (text,) = failures(check_brackets("new", records))
    assert "0.9870 >= 0.988" in text


def test_brightness_from_few_frames_to_all(records):
    records["b.hdr/9"]["new"]["brightness"] = 0.89 * GOOD["brightness"]
    (text,) = failures(check_brackets("new", records))
    assert "from 3 frames to all" in text and "worst 11.0" in text and "(b.hdr)" in text


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_brightness_of_mertens(records, factor):
    for name in ("a/3", "a/30"):
        records[name]["new"]["brightness"] = factor * WORSE["brightness"]
    (text,) = failures(check_brackets("new", records))
    assert "brightness from OpenCV Mertens" in text and "2 of 4 fail" in text


def test_nearly_white_pixels(records):
    records["a/3"]["new"]["near_white"] = WORSE["near_white"] + 2.1
    (text,) = failures(check_brackets("new", records))
    assert "nearly white" in text and "worst 2.10 <= 2 (a/3)" in text


def test_without_enfuse(records):
    for scores in records.values():
        del scores["enfuse"]
    texts = [check.text for check in check_brackets("new", records)]
    assert not any("enfuse" in text for text in texts)


@pytest.mark.parametrize(
    ("name", "value"),
    [("doubled", 1.1), ("black", 1.1), ("white", 1.1), ("permuted", 1), ("border_mean", 2.1)],
)
def test_behaviour(name, value):
    measured = dict.fromkeys(("doubled", "black", "white", "border_mean", "border_max"), 0.9)
    scenes = {"a": measured | {"permuted": 0.0}, "b": measured | {"permuted": 0.0}}
    assert failures(check_robustness(scenes)) == []
    scenes["b"][name] = value
    (text,) = failures(check_robustness(scenes))
    assert name in text and "(b); 1 of 2 fail" in text
