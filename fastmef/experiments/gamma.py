"""The experiment ``gamma``: the attributes of γ, with and without SSIM's luminance factor."""

from __future__ import annotations

from typing import Any

from fastmef.data.render import auto_exposures, render_exposures
from fastmef.experiments import page, plots
from fastmef.experiments.descent import descended
from fastmef.experiments.experiment import Experiment, Result, Rows
from fastmef.experiments.lab import Lab
from fastmef.experiments.scoring import (
    VARIANTS,
    mean_and_deviation,
    network_fusion,
    score_scenes,
)
from fastmef.experiments.store import Values
from fastmef.metrics import SCORES
from fastmef.nn.losses import WeightedSSIMLoss
from fastmef.nn.network import FusionNet

PAPER = {"variance_gradient": 0.9921, "variance": 0.9566, "well_exposedness": 0.8267}
"""γ → MEF-SSIM in arXiv 2510.21815, which does not name the variant of the metric."""

GAMMAS = (
    *PAPER,
    "gradient",
    "variance_well_exposedness",
    "gradient_well_exposedness",
    "variance_gradient_well_exposedness",
)
WAYS = ("network", "descent")

QUESTION = "Which attributes should γ have, with the luminance factor of SSIM or without it?"

METHOD = """\
In the paper's loss, γ decides where an exposure counts. It is a product of local variance,
gradient and well-exposedness. Each of the seven non-empty subsets is tried, with the luminance
factor of SSIM and without it. The paper reports an MEF-SSIM of 0.9921 for variance × gradient,
0.9566 for variance and 0.8267 for well-exposedness, and does not name the variant of the metric.

*network* is the paper's network, trained on the paper's loss alone. *descent* has no network:
gradient descent on the loss of the scene itself finds the weight of every pixel, so it shows what
the loss favours, independently of what a short training learns. `detail` is the mean gradient of
the result divided by that of the sharpest exposure at every pixel: a smoothed result has less."""


def measure(lab: Lab) -> Values:
    """Score networks and free weights for every γ, with luminance and without."""
    variants = {}
    for luminance in (False, True):
        for gamma in GAMMAS:
            count = lab.budget.seeds if gamma in PAPER else 1
            variants[_key(gamma, luminance)] = {
                "network": [_network_scores(lab, gamma, luminance, s) for s in range(count)],
                "descent": [_descent_scores(lab, gamma, luminance)],
            }
    return {
        "training": len(lab.training_scenes),
        "test": len(lab.test_scenes),
        "variants": variants,
    }


def _key(gamma: str, luminance: bool) -> str:
    return f"{gamma}, luminance" if luminance else gamma


def _network(lab: Lab, gamma: str, luminance: bool, seed: int) -> FusionNet:
    return lab.network(lab.config(seed, gamma=gamma, luminance=luminance), lab.pairs)


def _network_scores(lab: Lab, gamma: str, luminance: bool, seed: int) -> Values:
    return lab.variant(
        f"{_key(gamma, luminance)}, seed {seed}",
        {"gamma": gamma, "luminance": luminance, "seed": seed},
        lambda: score_scenes(
            lab.test_scenes, network_fusion(_network(lab, gamma, luminance, seed))
        ),
    )


def _descent_scores(lab: Lab, gamma: str, luminance: bool) -> Values:
    loss = WeightedSSIMLoss(gamma, luminance)
    steps = lab.budget.descent_steps
    return lab.variant(
        f"{_key(gamma, luminance)}, descent",
        {"gamma": gamma, "luminance": luminance},
        lambda: score_scenes(lab.test_scenes, lambda images: descended(images, loss, steps)),
    )


def sections(result: Result) -> list[str]:
    """Return tables of all subsets, and of the order of the paper's three γ."""
    values = result["values"]
    variants = values["variants"]
    data = f"pairs, {values['training']} scenes for training, {values['test']} of the others scored"
    lines: list[str] = []
    for way in WAYS:
        lines += [f"## {way.capitalize()}", ""]
        header = ["γ", *(f"`{name}`" for name in VARIANTS), "saturation", "detail"]
        rows = [
            [
                _title(key),
                *(
                    page.mean_cell(variants[key][way], name)
                    for name in (*VARIANTS, "saturation", "detail")
                ),
            ]
            for key in variants
        ]
        seeds = "no training"
        if way == "network":
            seeds = page.seeds_of(result["budget"]["seeds"]) + "; seed 0 of the last four γ"
        lines += page.table(header, rows) + page.measured_on(result, data, seeds)
    lines += ["## The paper's order", ""]
    header = ["", *(f"`{name}`" for name in VARIANTS)]
    rows = [
        [
            f"{way}{', luminance' * luminance}",
            *(_verdict(variants, way, luminance, x) for x in VARIANTS),
        ]
        for way in WAYS
        for luminance in (False, True)
    ]
    lines += page.table(header, rows)
    lines += page.measured_on(result, data, "means of the seeds above")
    lines += page.figure(result, "Scores by γ")
    return lines


def answer(values: Values) -> list[str]:
    """Return whether the paper's order, distances, scores and signs of failure are reproduced."""
    variants = values["variants"]
    cells = [(way, luminance, x) for way in WAYS for luminance in (False, True) for x in VARIANTS]
    return [
        *_orders(variants, cells),
        _widest(variants, cells),
        *_closest(variants, cells),
        *(_signatures(variants, way) for way in WAYS),
    ]


Column = tuple[str, bool, str]
"""Network or descent, luminance or not, variant of the metric."""


def _orders(variants: Values, cells: list[Column]) -> list[str]:
    """Say where the paper's order holds, and how networks differ in relation to their seeds."""
    counts = [
        f"{sum(_holds(variants, way, luminance, x) for x in VARIANTS)} of {way}"
        f"{' with luminance' * luminance}"
        for way in reversed(WAYS)
        for luminance in (False, True)
    ]
    names = list(PAPER)
    pairs = [
        (_mean_and_deviation(variants, better, *cell), _mean_and_deviation(variants, worse, *cell))
        for cell in cells
        if cell[0] == "network"
        for better, worse in zip(names, names[1:], strict=False)
    ]
    clear = sum(abs(a[0] - b[0]) > a[1] + b[1] for a, b in pairs)
    return [
        "The paper's order, variance × gradient > variance > well-exposedness, holds for"
        f" {', '.join(counts)}, of {len(VARIANTS)} variants of MEF-SSIM each.",
        f"Of {len(pairs)} differences between neighbours in this order, networks show {clear} that"
        " are larger than both standard deviations of their seeds.",
    ]


def _widest(variants: Values, cells: list[Column]) -> str:
    """Compare the largest distance from the best to the worst γ with the paper's."""

    def distance(cell: Column) -> float:
        best, *_, worst = (_mean_and_deviation(variants, gamma, *cell)[0] for gamma in PAPER)
        return best - worst

    widest = max(cells, key=distance)
    return (
        "From variance × gradient down to well-exposedness the paper has"
        f" {PAPER['variance_gradient'] - PAPER['well_exposedness']:.4f}. The largest distance here"
        f" is {distance(widest):.4f}: {_named(widest)}."
    )


def _closest(variants: Values, cells: list[Column]) -> list[str]:
    """Name the columns that are closest to the paper's scores, together and for each score."""

    def gaps(cell: Column) -> list[float]:
        return [
            abs(_mean_and_deviation(variants, gamma, *cell)[0] - PAPER[gamma]) for gamma in PAPER
        ]

    closest = min(cells, key=lambda cell: sum(gaps(cell)))
    means = {gamma: _mean_and_deviation(variants, gamma, *closest)[0] for gamma in PAPER}
    figures = ", ".join(
        f"{_title(gamma)} {means[gamma]:.4f} (paper {PAPER[gamma]:.4f})" for gamma in PAPER
    )
    alone = []
    for index, (gamma, figure) in enumerate(PAPER.items()):
        cell = min(cells, key=lambda cell: gaps(cell)[index])
        alone.append(
            f"to {figure:.4f} {_named(cell)} ({_mean_and_deviation(variants, gamma, *cell)[0]:.4f})"
        )
    return [
        f"Closest to the paper's three figures together is {_named(closest)},"
        f" {sum(gaps(closest)) / len(PAPER):.4f} from them on average: {figures}.",
        f"Closest to each alone: {'; '.join(alone)}.",
    ]


def _signatures(variants: Values, way: str) -> str:
    """Say whether the attributes alone lose detail, as the paper says of them."""
    detail = {
        gamma: _mean_and_deviation(variants, gamma, way, False, "detail")[0] for gamma in PAPER
    }
    both = detail["variance_gradient"]
    smoothed, lost = (
        f"has {'less' if detail[gamma] < both else 'more'} ({detail[gamma]:.3f})"
        for gamma in ("well_exposedness", "variance")
    )
    return (
        f"Detail, {way} without luminance: variance × gradient has {both:.3f}; well-exposedness"
        f" alone, which smooths in the paper, {smoothed}; variance alone, which loses texture"
        f" there, {lost}."
    )


def _named(cell: Column) -> str:
    way, luminance, name = cell
    return f"{SCORES[name]} of {way} {'with' if luminance else 'without'} luminance"


def _mean_and_deviation(
    variants: Values, gamma: str, way: str, luminance: bool, name: str
) -> tuple[float, float]:
    """Return mean and standard deviation of a score over the seeds."""
    return mean_and_deviation(variants[_key(gamma, luminance)][way], name)


def _holds(variants: Values, way: str, luminance: bool, name: str) -> bool:
    scores = [_mean_and_deviation(variants, gamma, way, luminance, name)[0] for gamma in PAPER]
    return scores[0] > scores[1] > scores[2]


def _verdict(variants: Values, way: str, luminance: bool, name: str) -> str:
    """Return the order of the paper's three γ, bold if it agrees with the paper's."""
    short = {"variance_gradient": "VS", "variance": "V", "well_exposedness": "E"}
    ranked = sorted(
        PAPER, key=lambda gamma: -_mean_and_deviation(variants, gamma, way, luminance, name)[0]
    )
    order = " > ".join(short[gamma] for gamma in ranked)
    return f"**{order}**" if _holds(variants, way, luminance, name) else order


def _title(key: str) -> str:
    return key.replace("_", " × ").replace("well × exposedness", "well-exposedness")


def draw(result: Result, axes: Any) -> None:
    """Draw two variants of the metric for every γ, for network and descent."""
    variants = result["values"]["variants"]
    for axis, name in zip(axes, ("ma2015_1_scale", "mefnet"), strict=True):
        series = {
            f"{way}{', luminance' * luminance}": [
                mean_and_deviation(variants[_key(gamma, luminance)][way], name) for gamma in GAMMAS
            ]
            for way in WAYS
            for luminance in (False, True)
        }
        plots.dots(axis, [_title(gamma) for gamma in GAMMAS], series, SCORES[name])


def pictures(lab: Lab) -> Rows:
    """Return results of the paper's three γ on a view of an HDR file, by network and descent."""
    view = lab.test_views[0]
    exposures = render_exposures(view.radiance, auto_exposures(view.radiance))
    steps = lab.budget.descent_steps
    rows = [[("under-exposed", exposures[0]), ("over-exposed", exposures[1])]]
    rows.append(
        [
            (f"{_title(gamma)}, network", network_fusion(_network(lab, gamma, False, 0))(exposures))
            for gamma in PAPER
        ]
    )
    rows.append(
        [
            (f"{_title(gamma)}, descent", descended(exposures, WeightedSSIMLoss(gamma), steps))
            for gamma in PAPER
        ]
    )
    return rows


GAMMA = Experiment(
    "gamma",
    "Which γ",
    QUESTION,
    METHOD,
    ("pairs",),
    measure,
    answer,
    sections,
    draw,
    parts=("network", "descent"),
    columns=2,
    pictures=pictures,
)
