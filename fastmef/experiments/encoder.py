"""The experiment ``encoder``: luma, colour, or luma and the largest channel as network input."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastmef.data.render import auto_exposures, render_exposures
from fastmef.data.srgb import srgb_decode
from fastmef.experiments import page, plots
from fastmef.experiments.budget import MANY_NETWORKS
from fastmef.experiments.chroma import chroma_difference
from fastmef.experiments.experiment import Experiment, Result
from fastmef.experiments.lab import Lab
from fastmef.experiments.scoring import mean_and_deviation, network_fusion, score_scenes
from fastmef.experiments.store import Values
from fastmef.nn.network import IN_FEATURES

LOSSES: dict[str, dict[str, Any]] = {
    "paper's loss": {},
    "and colour": {"color": 0.5, "brightness": 0.1},
}
"""Terms in addition to the paper's loss. The colour term depends on more than luma."""

SHOWN = {
    "ma2015_1_scale": ("`ma2015`, 1 scale", 4),
    "mefnet": ("`mefnet`", 4),
    "color2018": ("`color2018`", 4),
    "saturation": ("saturation", 4),
    "chroma": ("ΔE00", 3),
}

QUESTION = "Does luma as the network's input cost accuracy of colour?"

METHOD = """\
The paper's network reads the luma of the exposures, and the paper asks whether that costs
accuracy of colour. Three inputs are compared: `gray` is luma, `rgb` all three channels,
`gray_max` luma and the largest channel, which shows a clipped channel that luma hides. A network
for each input is trained on the paper's loss, which depends on luma only, and on this loss with
terms for colour contrast (0.5) and brightness (0.1).

`color2018` and saturation are measured on the pairs held back. ΔE00 is measured on views of HDR
files held back, rendered to two exposures. It compares the chroma of the result with that of the
HDR file, both at middle grey; 0 is best. The saturation of the exposures is not a target."""


def measure(lab: Lab) -> Values:
    """Train and score every input with every loss."""
    variants = {
        f"{features}, {loss}": [
            lab.variant(
                f"{features}, {loss}, seed {seed}",
                {"in_features": features, "terms": terms, "seed": seed},
                partial(_scores, lab, features, terms, seed),
            )
            for seed in lab.seeds
        ]
        for loss, terms in LOSSES.items()
        for features in IN_FEATURES
    }
    return {
        "training": len(lab.training_scenes),
        "test": len(lab.test_scenes),
        "views": len(lab.test_views),
        "variants": variants,
    }


def _scores(lab: Lab, features: str, terms: dict[str, Any], seed: int) -> Values:
    config = lab.config(seed, in_features=features, **terms)
    fusion = network_fusion(lab.network(config, lab.pairs))
    differences = []
    for view in lab.test_views:
        images = render_exposures(view.radiance, auto_exposures(view.radiance))
        linear = srgb_decode(np.float32(fusion(images)) / 255)
        differences.append(chroma_difference(linear, view.radiance))
    return score_scenes(lab.test_scenes, fusion) | {"chroma": float(np.mean(differences))}


def sections(result: Result) -> list[str]:
    """Return one table."""
    values = result["values"]
    variants = values["variants"]
    data = (
        f"pairs, {values['training']} scenes for training, {values['test']} of the others scored;"
        f" ΔE00 on {values['views']} views of HDR files held back"
    )
    rows: list[list[page.Cell]] = []
    for name, records in variants.items():
        cells: list[page.Cell] = [name]
        for key, (_, decimals) in SHOWN.items():
            mean, deviation = mean_and_deviation(records, key)
            cells.append(f"{mean:.{decimals}f} ± {deviation:.{decimals}f}")
        rows.append(cells)
    lines = page.table(["", *(title for title, _ in SHOWN.values())], rows)
    lines += page.measured_on(result, data, page.seeds_of(result["budget"]["seeds"]))
    lines += page.figure(result, "Scores by input")
    return lines


def answer(values: Values) -> list[str]:
    """Compare every input with luma, in standard deviations of the seeds."""
    variants = values["variants"]
    keys = ("ma2015_1_scale", "color2018", "saturation", "chroma")
    pairs = [(loss, features) for loss in LOSSES for features in IN_FEATURES if features != "gray"]
    sentences, clear = [], 0
    for loss, features in pairs:
        records, base = variants[f"{features}, {loss}"], variants[f"gray, {loss}"]
        clear += sum(page.is_clear(records, base, key) for key in keys)
        changes = [
            f"{SHOWN[key][0]} {page.difference(records, base, key, SHOWN[key][1])}" for key in keys
        ]
        sentences.append(f"{features} minus gray, {loss}: {', '.join(changes)}.")
    return [
        f"Of {len(pairs) * len(keys)} differences to luma, of {len(keys)} scores, {clear} are"
        " larger than the standard deviations of the seeds; those are bold below.",
        *sentences,
    ]


def draw(result: Result, axes: Any) -> None:
    """Draw ΔE00 and ``color2018`` for every input."""
    variants = result["values"]["variants"]
    for axis, key in zip(axes, ("chroma", "color2018"), strict=True):
        series = {
            loss: [mean_and_deviation(variants[f"{name}, {loss}"], key) for name in IN_FEATURES]
            for loss in LOSSES
        }
        plots.dots(axis, list(IN_FEATURES), series, SHOWN[key][0].replace("`", ""))


ENCODER = Experiment(
    "encoder",
    "Grey or colour input",
    QUESTION,
    METHOD,
    ("pairs", "hdr"),
    measure,
    answer,
    sections,
    draw,
    small=MANY_NETWORKS,
    columns=2,
)
