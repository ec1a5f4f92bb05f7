"""Check the goals of the default model; print PASS or FAIL with the values."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.quality.methods import ENFUSE, FMMEF, MERTENS

PAIR_GOALS = {
    "ma2015_3_scales": 0.991,
    "ma2015_1_scale": 0.995,
    "mefnet": 0.957,
    "color2018": 0.950,
    "saturation": 0.314,
}
BRACKET_GOALS = {"ma2015_3_scales": 0.988, "mefnet": 0.95, "color2018": 0.94}
FEW = 3  # frames of the thinned bracket whose brightness is compared with that of all frames
LARGEST_DRIFT = 10.0  # largest difference of brightness with FEW and with all frames, percent
LARGEST_OFFSET = 15.0  # largest difference of brightness from Mertens', percent
MORE_WHITE = 2.0  # most nearly white pixels above enfuse's, percentage points
LARGEST_CHANGE = {"doubled": 1, "black": 1, "white": 1, "permuted": 0}  # levels
LARGEST_BORDER = 2.0  # levels

Scores = Mapping[str, Mapping[str, float]]
"""Label → column → value."""


@dataclass(frozen=True)
class Check:
    """One requirement, with the value that decides it."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.text}"


def means(records: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """Return label → column → mean over the scenes."""
    scenes = list(records.values())
    return {
        label: {
            column: statistics.fmean(scene[label][column] for scene in scenes)
            for column in scenes[0][label]
        }
        for label in scenes[0]
    }


def check_pairs(label: str, records: Mapping[str, Scores]) -> Iterator[Check]:
    """Check the goals on the validation pairs, and every column against FMMEF's."""
    average = means(records)
    for column, goal in PAIR_GOALS.items():
        value, theirs = average[label][column], average[FMMEF][column]
        yield Check(value >= goal, f"pairs, {column}: {value:.4f} >= {goal:.3f}")
        yield Check(value > theirs, f"pairs, {column}: {value:.4f} > {theirs:.4f} of {FMMEF}")


def check_brackets(label: str, records: Mapping[str, Scores]) -> Iterator[Check]:
    """Check the goals on held-out brackets ``scene/count``, and the limits of brightness."""
    average = means(records)
    for other, columns in (
        (MERTENS, ("ma2015_3_scales",)),
        (FMMEF, ("ma2015_3_scales", "mefnet", "color2018")),
    ):
        for column in columns:
            value, theirs = average[label][column], average[other][column]
            text = f"brackets, {column}: {value:.4f} > {theirs:.4f} of {other}"
            yield Check(value > theirs, text)
    for column, goal in BRACKET_GOALS.items():
        value = average[label][column]
        yield Check(value >= goal, f"brackets, {column}: {value:.4f} >= {goal:.3f}")

    column = "ma2015_3_scales"
    leads = {name: x[label][column] - x[MERTENS][column] for name, x in records.items()}
    yield _worst(f"brackets, {column} above {MERTENS} on every one", leads, 0, ".4f", lowest=True)

    offsets = {
        name: 100 * abs(x[label]["brightness"] / x[MERTENS]["brightness"] - 1)
        for name, x in records.items()
    }
    text = f"brackets, brightness from {MERTENS}', percent"
    yield _worst(text, offsets, LARGEST_OFFSET, ".1f")
    text = f"scenes, brightness from {FEW} frames to all, percent"
    yield _worst(text, _drifts(label, records), LARGEST_DRIFT, ".1f")
    if ENFUSE in average:
        whites = {
            name: x[label]["near_white"] - x[ENFUSE]["near_white"] for name, x in records.items()
        }
        text = f"brackets, points of nearly white pixels above {ENFUSE}'s"
        yield _worst(text, whites, MORE_WHITE, ".2f")


def check_robustness(records: Mapping[str, Mapping[str, float]]) -> Iterator[Check]:
    """Check the limits for the results of :func:`bench.quality.robustness.robustness`."""
    for name, limit in LARGEST_CHANGE.items():
        values = {scene: x[name] for scene, x in records.items()}
        yield _worst(f"bracket {name}, levels", values, limit, ".2f")
    for name in ("border_mean", "border_max"):
        values = {scene: x[name] for scene, x in records.items()}
        yield _worst(f"{name}, levels", values, LARGEST_BORDER, ".2f")


def _drifts(label: str, records: Mapping[str, Scores]) -> dict[str, float]:
    """Return scene → change of brightness between few and all of its frames, in percent."""
    brightness: dict[str, dict[int, float]] = {}
    for name, scores in records.items():
        scene, count = name.rsplit("/", 1)
        brightness.setdefault(scene, {})[int(count)] = scores[label]["brightness"]
    return {
        scene: 100 * abs(values[max(values)] / values[FEW] - 1)
        for scene, values in brightness.items()
    }


def _worst(
    text: str, values: Mapping[str, float], limit: float, digits: str, lowest: bool = False
) -> Check:
    """Check that every value is at most ``limit``, or with ``lowest`` above it."""
    failing = [name for name, x in values.items() if not (x > limit if lowest else x <= limit)]
    name = (min if lowest else max)(values, key=lambda x: values[x])
    sign = ">" if lowest else "<="
    text = f"{text}: worst {values[name]:{digits}} {sign} {limit:g} ({name})"
    if failing:
        text += f"; {len(failing)} of {len(values)} fail"
    return Check(not failing, text)
