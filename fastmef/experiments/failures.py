"""The experiment ``failures``: the errors of γ with noise and with a low dynamic range."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.experiments import page, plots
from fastmef.experiments.descent import as_image, descend
from fastmef.experiments.experiment import Experiment, Result, Rows
from fastmef.experiments.lab import Lab, spaced
from fastmef.experiments.noise import expose_with_noise, noise_aware_gamma, smooth_gamma
from fastmef.experiments.photographs import Image, View, evs_of_gap
from fastmef.experiments.scoring import mean_of, stack
from fastmef.experiments.store import Values
from fastmef.functional import gamma_weights, mef_ssim, softmax_fuse
from fastmef.nn.losses import WeightedSSIMLoss
from fastmef.reference.color import rgb_to_gray

Gamma = str | Callable[[Tensor], Tensor]

GAMMAS: dict[str, Gamma] = {
    "variance × gradient": "variance_gradient",
    "smoothed": smooth_gamma,
    "noise-aware": noise_aware_gamma,
}
NOISE = (0.0, 0.005, 0.01, 0.02, 0.04)
CASES = {
    "gap 1": (1.0, 1.0),
    "gap 3": (3.0, 1.0),
    "gap 5": (5.0, 1.0),
    "gap 3, half the range": (3.0, 0.5),
    "gap 3, a quarter": (3.0, 0.25),
}
"""Stops between the two exposures, and the exponent that compresses the radiance."""
VIEWS = 6
SHOWN_NOISE = 0.02

QUESTION = "Where does γ go wrong: noise, scenes of low dynamic range?"

METHOD = """\
γ measures contrast, and noise is contrast. HDR files held back are rendered to two exposures at
several distances, with shot and read noise of the standard deviation σ at white in linear light.
*half the range* and *a quarter* compress the radiance L to L^½ and L^¼ first, which makes scenes
of a low dynamic range.

- **error of γ** is half the sum over the exposures of |γ − γ\\*|, averaged over the pixels, where
  γ\\* is variance × gradient of the same exposures without noise. 0 is best; with two exposures, 1
  means that γ has chosen the other one everywhere.
- **MEF-SSIM** (`ma2015`, 1 scale) compares a fusion of the noisy exposures with the exposures
  without noise. Its weights come from gradient descent on the loss with this γ.
- **noise** is the PSNR in dB of that fusion against the noiseless exposures fused with the same
  weights. It is high if a γ prefers the less noisy exposure.

*smoothed* averages the gradient over the window of the variance. *noise-aware* does so too, and
subtracts an estimate of the noise from both: the variance of the noise as a function of
brightness, from the quartile of the difference of two Laplacians (Immerkær 1996)."""


def measure(lab: Lab) -> Values:
    """Sweep noise, gap and range for every γ."""
    chosen = spaced(lab.test_views, VIEWS)
    cells = {}
    for case, (gap, power) in CASES.items():
        for noise in NOISE:
            name = f"{case}, noise {noise:g}"
            cells[name] = lab.variant(
                name,
                {"gap": gap, "power": power, "noise": noise},
                partial(_cell, lab, chosen, gap, power, noise),
            )
    return {"views": len(chosen), "cells": cells}


def exposures_of(view: View, gap: float, power: float, noise: float) -> list[Image]:
    """Return two exposures of a view, the dark one first."""
    radiance: NDArray[np.float32] = view.radiance**power
    evs = evs_of_gap(radiance, gap)
    return [expose_with_noise(radiance, ev, noise, seed) for seed, ev in enumerate(evs)]


def _cell(lab: Lab, chosen: list[View], gap: float, power: float, noise: float) -> Values:
    records: dict[str, list[dict[str, float]]] = {name: [] for name in GAMMAS}
    for view in chosen:
        clean = _unit(exposures_of(view, gap, power, 0.0))
        noisy = _unit(exposures_of(view, gap, power, noise))
        best = gamma_weights(clean)
        for name, gamma in GAMMAS.items():
            logits = _descended(lab, noisy, gamma)
            fused, without = softmax_fuse(logits, noisy), softmax_fuse(logits, clean)
            records[name].append(
                {
                    "error": float((gamma_weights(noisy, gamma) - best).abs().sum(1).mean() / 2),
                    "ma2015_1_scale": float(mef_ssim(_8bit(fused), _8bit(clean), scales=1)),
                    "noise": _psnr(fused, without),
                }
            )
    return {name: mean_of(found) for name, found in records.items()}


def _descended(lab: Lab, exposures: Tensor, gamma: Gamma) -> Tensor:
    """Return logits after descent on the loss with a γ, which is computed once."""
    if not isinstance(gamma, str):
        attribute = gamma(rgb_to_gray(exposures))
        gamma = partial(_constant, attribute)
    return descend(exposures, WeightedSSIMLoss(gamma), lab.budget.descent_steps)


def _constant(attribute: Tensor, planes: Tensor) -> Tensor:
    return attribute


def _unit(images: list[Image]) -> Tensor:
    return stack(images).float() / 255


def _8bit(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _psnr(a: Tensor, b: Tensor) -> float:
    """Return the PSNR in dB, at most 60; rounding to 8 bits alone gives 59."""
    return min(60.0, -10 * float((a - b).square().mean().clamp_min(1e-9).log10()))


MEASURES = {
    "error": ("error of γ", 3, False),
    "ma2015_1_scale": ("MEF-SSIM", 4, True),
    "noise": ("noise, dB", 1, True),
}
"""Title, decimals, and whether more is better."""


def sections(result: Result) -> list[str]:
    """Return a table for every measure."""
    cells, views = result["values"]["cells"], result["values"]["views"]
    lines: list[str] = []
    for key, (title, decimals, _) in MEASURES.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        header = ["", *(f"σ = {noise:g}" for noise in NOISE)]
        rows: list[list[page.Cell]] = [
            [f"{case}: {name}", *(cells[f"{case}, noise {n:g}"][name][key] for n in NOISE)]
            for case in CASES
            for name in GAMMAS
        ]
        lines += page.table(header, rows, decimals)
        data = f"{views} views of HDR files held back"
        lines += page.measured_on(result, data, "no training, seeds 0 and 1 of the noise")
    lines += page.figure(result, "Error of γ and score by noise")
    return lines


def answer(values: Values) -> list[str]:
    """Count the cases in which each γ is better than the paper's, with and without noise."""
    cells = values["cells"]
    plain = "variance × gradient"
    worst = max(cells, key=lambda name: cells[name][plain]["error"])
    aware, error = (cells[worst][name]["error"] for name in ("noise-aware", plain))
    sentences = [
        f"Noise misleads γ most at {worst}: {plain} has an error of {error:.3f}, noise-aware"
        f" {aware:.3f}."
    ]
    for other in ("smoothed", "noise-aware"):
        for quiet, found in (
            (True, [cell for name, cell in cells.items() if name.endswith("noise 0")]),
            (False, [cell for name, cell in cells.items() if not name.endswith("noise 0")]),
        ):
            parts = []
            for key, (title, decimals, more) in MEASURES.items():
                if quiet and key == "noise":
                    continue
                gains = [
                    (cell[other][key] - cell[plain][key]) * (1 if more else -1) for cell in found
                ]
                better = sum(gain > 0 for gain in gains)
                mean = sum(gains) / len(gains)
                parts.append(
                    f"{title} better in {better} of {len(gains)} (mean {mean:+.{decimals + 1}f})"
                )
            where = "without noise" if quiet else "with noise"
            sentences.append(f"*{other}* beside {plain}, {where}: {'; '.join(parts)}.")
    return sentences


def draw(result: Result, axes: Any) -> None:
    """Draw the error of γ and the score by noise, at a gap of three stops."""
    cells = result["values"]["cells"]
    for axis, key in zip(axes, ("error", "ma2015_1_scale"), strict=True):
        series = {
            f"{case}: {name}": [cells[f"{case}, noise {n:g}"][name][key] for n in NOISE]
            for case in ("gap 3", "gap 3, a quarter")
            for name in GAMMAS
        }
        plots.lines(axis, list(NOISE), series, "σ at white", MEASURES[key][0])


def pictures(lab: Lab) -> Rows:
    """Return for every γ its map of the darker exposure, white where it counts, and the result."""
    view = lab.test_views[0]
    rows: Rows = []
    for title, noise in (("no noise", 0.0), (f"σ = {SHOWN_NOISE:g}", SHOWN_NOISE)):
        images = exposures_of(view, 3.0, 1.0, noise)
        exposures = _unit(images)
        maps = [(f"dark, {title}", images[0])]
        results = [(f"bright, {title}", images[1])]
        for name, gamma in GAMMAS.items():
            plane = _8bit(gamma_weights(exposures, gamma)[0, 0, 0]).numpy()
            logits = _descended(lab, exposures, gamma)
            maps.append((f"γ of dark: {name}", np.pad(plane, 5)))
            results.append((f"fused: {name}", as_image(softmax_fuse(logits, exposures))))
        rows += [maps, results]
    return rows


FAILURES = Experiment(
    "failures",
    "Noise and low dynamic range",
    QUESTION,
    METHOD,
    ("hdr",),
    measure,
    answer,
    sections,
    draw,
    parts=("descent",),
    columns=2,
    pictures=pictures,
)
