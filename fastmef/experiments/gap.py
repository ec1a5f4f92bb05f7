"""The experiment ``gap``: scores against the distance of the two exposures."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastmef.data.render import render_exposures
from fastmef.experiments import methods, page, plots
from fastmef.experiments.budget import MANY_NETWORKS
from fastmef.experiments.descent import descended
from fastmef.experiments.experiment import Experiment, Result, Rows
from fastmef.experiments.lab import Lab
from fastmef.experiments.photographs import Image, View, evs_of_gap, write_scene
from fastmef.experiments.scoring import Fuse, mean_and_deviation, mean_of, network_fusion, score
from fastmef.experiments.store import Values
from fastmef.inference.simple import plain_mean
from fastmef.metrics import SCORES
from fastmef.nn.losses import WeightedSSIMLoss
from fastmef.nn.network import FusionNet

GAPS = (1, 2, 3, 4, 5, 6, 8)
TRAINED_ON = (1, 3, 5)
SHOWN = ("ma2015_1_scale", "ma2015_3_scales", "mefnet", "color2018")

QUESTION = "How do the scores depend on the distance of the two exposures?"

METHOD = """\
Two exposures at distances of 1, 2, 3, 4, 5, 6 and 8 stops are rendered from the same HDR files,
around the middle of the two that a photographer would take. The paper's network is trained on
pairs of 1, 3 or 5 stops from the other HDR files, and tested at every distance. *paper weights*
and *default* are the bundled weights, which were trained on photographs of mixed distances.
*descent* optimises a free weight at every pixel on the paper's loss. All scores compare with the
given exposures. A larger distance also changes what has to be shown, so the numbers in a column
are comparable, those in a row are not."""


def measure(lab: Lab) -> Values:
    """Score every method at every distance."""
    plain: dict[str, Fuse] = {
        "darker exposure": methods.darkest,
        "brighter exposure": methods.brightest,
        "plain mean": plain_mean,
        "OpenCV Mertens": methods.opencv_mertens,
        "paper weights": network_fusion("paper"),
        "default": methods.default,
        "descent": partial(descended, loss=WeightedSSIMLoss(), steps=lab.budget.descent_steps),
    }
    variants = {
        name: [lab.variant(name, {}, partial(_scores_by_gap, lab, fusion))]
        for name, fusion in plain.items()
    }
    for gap in TRAINED_ON:
        variants[_trained(gap)] = [
            lab.variant(
                f"{_trained(gap)}, seed {seed}",
                {"gap": gap, "seed": seed},
                partial(_trained_scores, lab, gap, seed),
            )
            for seed in lab.seeds
        ]
    return {
        "training": len(lab.training_views),
        "test": len(lab.test_views),
        "variants": variants,
    }


def _trained(gap: int) -> str:
    return f"trained on {gap} stop{'s' * (gap > 1)}"


def exposures_of(view: View, gap: float) -> list[Image]:
    """Return two exposures of a view, the dark one first."""
    return render_exposures(view.radiance, evs_of_gap(view.radiance, gap))


def _network(lab: Lab, gap: int, seed: int) -> FusionNet:
    folder = lab.work / f"gap_{gap}_{lab.budget.side}_{lab.names}"
    for view in lab.training_views:
        dark, bright = exposures_of(view, gap)
        write_scene(folder, view.name, {"under": dark, "over": bright})
    return lab.network(lab.config(seed), folder)


def _trained_scores(lab: Lab, gap: int, seed: int) -> Values:
    return _scores_by_gap(lab, network_fusion(_network(lab, gap, seed)))


def _scores_by_gap(lab: Lab, fusion: Fuse) -> Values:
    """Return distance in stops → mean scores over the test views."""
    found = {}
    for gap in GAPS:
        scenes = [exposures_of(view, gap) for view in lab.test_views]
        found[str(gap)] = mean_of([score(fusion(images), images) for images in scenes])
    return found


def sections(result: Result) -> list[str]:
    """Return a table for each variant of the metric."""
    values = result["values"]
    variants = values["variants"]
    data = (
        f"{values['test']} views of HDR files held back, networks trained on {values['training']}"
        " views of the others"
    )
    lines: list[str] = []
    for key in SHOWN:
        lines += [f"## {SCORES[key]}", ""]
        header = ["", *(f"{gap} EV" for gap in GAPS)]
        rows: list[list[page.Cell]] = [
            [name, *(page.mean_cell([r[str(gap)] for r in records], key) for gap in GAPS)]
            for name, records in variants.items()
        ]
        lines += page.table(header, rows)
        seeds = page.seeds_of(result["budget"]["seeds"]) + ", of the networks trained here"
        lines += page.measured_on(result, data, seeds)
    lines += page.figure(result, "Scores by the distance of the exposures")
    return lines


def answer(values: Values) -> list[str]:
    """Return the best distance to train on, and how far every method's scores vary."""
    variants = values["variants"]
    sentences = []
    for key in ("ma2015_1_scale", "mefnet"):
        best = {
            gap: max(
                (_trained(each) for each in TRAINED_ON),
                key=lambda name: mean_and_deviation([r[str(gap)] for r in variants[name]], key)[0],
            )
            for gap in GAPS
        }
        text = ", ".join(
            f"{gap} EV: {name.removeprefix('trained on ')}" for gap, name in best.items()
        )
        sentences.append(
            f"{SCORES[key]}, best distance to train on by distance of the test: {text}."
        )
        for name in ("OpenCV Mertens", "paper weights", "default", "descent"):
            scores = {gap: variants[name][0][str(gap)][key] for gap in GAPS}
            lowest, highest = (
                min(scores, key=scores.__getitem__),
                max(scores, key=scores.__getitem__),
            )
            sentences.append(
                f"{SCORES[key]}, {name}: from {scores[lowest]:.4f} at {lowest} EV to"
                f" {scores[highest]:.4f} at {highest} EV."
            )
    return sentences


def draw(result: Result, axes: Any) -> None:
    """Draw two variants of the metric against the distance."""
    variants = result["values"]["variants"]
    for axis, key in zip(axes, ("ma2015_1_scale", "mefnet"), strict=True):
        series = {
            name: [mean_and_deviation([r[str(gap)] for r in records], key)[0] for gap in GAPS]
            for name, records in variants.items()
            if not name.endswith("exposure")
        }
        plots.lines(axis, [float(gap) for gap in GAPS], series, "stops", SCORES[key])


def pictures(lab: Lab) -> Rows:
    """Return exposures and results of a view at three distances."""
    rows: Rows = []
    for gap in TRAINED_ON:
        dark, bright = exposures_of(lab.test_views[0], gap)
        rows.append(
            [
                (f"dark, {gap} EV", dark),
                (f"bright, {gap} EV", bright),
                ("OpenCV Mertens", methods.opencv_mertens([dark, bright])),
                (_trained(gap), network_fusion(_network(lab, gap, 0))([dark, bright])),
            ]
        )
    return rows


GAP = Experiment(
    "gap",
    "Distance of the exposures",
    QUESTION,
    METHOD,
    ("hdr",),
    measure,
    answer,
    sections,
    draw,
    small=MANY_NETWORKS | {"scenes": 6},
    parts=("network", "descent"),
    columns=2,
    pictures=pictures,
)
