"""The experiment ``transfer``: train on one family of photographs, test on the others."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from fastmef.data.pairs import Scene, find_scenes, split_scenes
from fastmef.experiments import methods, page, plots
from fastmef.experiments.budget import MANY_NETWORKS
from fastmef.experiments.experiment import Experiment, Result
from fastmef.experiments.lab import Lab
from fastmef.experiments.scoring import Fuse, mean_and_deviation, network_fusion, score_scenes
from fastmef.experiments.store import Values
from fastmef.metrics import SCORES

SHOWN = ("ma2015_1_scale", "mefnet")
FEWEST = 8
"""Least number of scenes of a family; smaller families are joined to one."""

OTHERS, ALL = "others", "all"
SAME = {"sicehr": "sice"}
"""Families of the same photographs under two names."""

MERTENS = "OpenCV Mertens"

QUESTION = "Does a network trained on one collection of photographs fuse those of another?"

METHOD = """\
The part of a scene's name before the first `_` is its family. Families of fewer than 8 scenes are
joined to *others*. The paper's network is trained on the paper's loss with the training scenes of
one family, or of all families, in the same number of steps. It is scored on the scenes of every
family that are held back. Columns are not comparable with one another: the families are not
equally difficult, as the row of OpenCV's Mertens fusion shows."""


def measure(lab: Lab) -> Values:
    """Score networks of every family on every family."""
    training, test = split_scenes(find_scenes(lab.pairs))
    family = families(training, test)
    names = sorted({family[scene.name] for scene in test} & {family[s.name] for s in training})
    tests = {name: [scene for scene in test if family[scene.name] == name] for name in names}
    variants: Values = {
        MERTENS: [lab.variant(MERTENS, {}, partial(_score, tests, methods.opencv_mertens))]
    }
    for name in (*names, ALL):
        excluded = [s.name for s in training if name not in (ALL, family[s.name])]
        variants[name] = [
            lab.variant(
                f"{name}, seed {seed}",
                {"family": name, "seed": seed},
                partial(_train_and_score, lab, tests, excluded, seed),
            )
            for seed in lab.seeds
        ]
    counts = Counter(family[scene.name] for scene in training)
    return {
        "training": {name: counts[name] for name in names},
        "test": {name: len(scenes) for name, scenes in tests.items()},
        "variants": variants,
    }


def families(training: list[Scene], test: list[Scene]) -> dict[str, str]:
    """Return name of a scene → family."""
    prefixes = {s.name: s.name.partition("_")[0] for s in (*training, *test)}
    prefixes = {name: SAME.get(prefix, prefix) for name, prefix in prefixes.items()}
    sizes = Counter(prefixes.values())
    tested = {prefixes[scene.name] for scene in test}
    return {
        name: prefix if sizes[prefix] >= FEWEST and prefix in tested else OTHERS
        for name, prefix in prefixes.items()
    }


def _train_and_score(
    lab: Lab, tests: dict[str, list[Scene]], excluded: list[str], seed: int
) -> Values:
    return _score(tests, network_fusion(lab.network(lab.config(seed), lab.pairs, excluded)))


def _score(tests: dict[str, list[Scene]], fusion: Fuse) -> Values:
    """Return family → mean scores."""
    return {name: score_scenes(scenes, fusion) for name, scenes in tests.items()}


def sections(result: Result) -> list[str]:
    """Return a table for each variant of the metric: training family × test family."""
    values = result["values"]
    variants, names = values["variants"], list(values["test"])
    counts = ", ".join(
        f"{name} {values['training'][name]} for training and {values['test'][name]} scored"
        for name in names
    )
    lines: list[str] = []
    for key in SHOWN:
        lines += [f"## {SCORES[key]}", ""]
        rows: list[list[page.Cell]] = [
            [
                MERTENS if trained == MERTENS else f"trained on {trained}",
                *(page.mean_cell([r[tested] for r in records], key) for tested in names),
            ]
            for trained, records in variants.items()
        ]
        lines += page.table(["", *(f"on {name}" for name in names)], rows)
        lines += page.measured_on(
            result, f"pairs: {counts}", page.seeds_of(result["budget"]["seeds"])
        )
    lines += page.figure(result, "Score by family")
    return lines


def answer(values: Values) -> list[str]:
    """Compare scores on the family of the training with those on the others."""
    variants, names = values["variants"], list(values["test"])
    sentences = []
    for key in SHOWN:
        means = {
            (trained, tested): mean_and_deviation([r[tested] for r in variants[trained]], key)[0]
            for trained in (*names, ALL)
            for tested in names
        }
        own = sum(means[name, name] for name in names) / len(names)
        pairs = [(a, b) for a in names for b in names if a != b]
        foreign = sum(means[pair] for pair in pairs) / len(pairs)
        everything = sum(means[ALL, name] for name in names) / len(names)
        lost, *_ = sorted(pairs, key=lambda pair: means[pair] - means[pair[1], pair[1]])
        best = [name for name in names if means[name, name] == max(means[x, name] for x in names)]
        mertens = sum(variants[MERTENS][0][name][key] for name in names) / len(names)
        sentences.append(
            f"{SCORES[key]}: {own:.4f} on average on the own family, {foreign:.4f} on another"
            f" ({foreign - own:+.4f}), {everything:.4f} trained on all; {MERTENS} {mertens:.4f}. A"
            " network of the own family is the best of the"
            f" families on {len(best)} of {len(names)}; the largest loss is"
            f" {means[lost[1], lost[1]] - means[lost]:.4f}, trained on {lost[0]} and tested on"
            f" {lost[1]}."
        )
    return sentences


def draw(result: Result, axes: Any) -> None:
    """Draw the score of every network on every family."""
    values = result["values"]
    names = list(values["test"])
    series = {
        trained: [mean_and_deviation([r[tested] for r in records], SHOWN[0]) for tested in names]
        for trained, records in values["variants"].items()
    }
    plots.dots(axes[0], names, series, f"{SCORES[SHOWN[0]]}, by the family tested on")


TRANSFER = Experiment(
    "transfer",
    "Another data set",
    QUESTION,
    METHOD,
    ("pairs",),
    measure,
    answer,
    sections,
    draw,
    small=MANY_NETWORKS,
)
