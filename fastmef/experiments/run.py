"""Run an experiment; write its values as JSON, a Markdown page, a figure and pictures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture

from fastmef.data.files import atomic_write, display
from fastmef.data.sheet import contact_sheet
from fastmef.errors import InputError
from fastmef.experiments import plots
from fastmef.experiments.budget import BUDGETS, Budget
from fastmef.experiments.encoder import ENCODER
from fastmef.experiments.experiment import Experiment, Result, Rows
from fastmef.experiments.failures import FAILURES
from fastmef.experiments.gamma import GAMMA
from fastmef.experiments.gap import GAP
from fastmef.experiments.lab import Lab
from fastmef.experiments.learned import LEARNED
from fastmef.experiments.page import bullets
from fastmef.experiments.transfer import TRANSFER
from fastmef.experiments.truth import TRUTH

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (GAMMA, FAILURES, GAP, TRUTH, ENCODER, LEARNED, TRANSFER)
}
"""Name → experiment, in the order in which ``all`` runs them."""

PICTURE_WIDTH = 320
JPEG_QUALITY = 72
IN_ASCII = str.maketrans({"×": "x", "γ": "gamma", "σ": "sigma"})
"""Replacements for characters that the font of contact sheets lacks."""


def run_experiment(
    name: str,
    data: Path,
    out: Path,
    budget: str | Budget = "small",
    work: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Run an experiment and write its results.

    The results are ``NAME.json``, ``NAME.md``, ``NAME.svg`` and, if the experiment has pictures and
    there are HDR files, ``NAME.jpg``. An experiment that was stopped continues with the next
    variant.

    Args:
        name: a key of :data:`EXPERIMENTS`.
        data: a folder with ``pairs`` (scenes of two exposures) and ``hdr`` (HDR files), as far as
            the experiment needs them.
        out: the folder of the results; it is created if it does not exist.
        budget: a key of :data:`BUDGETS`, or sizes of your own.
        work: the folder of prepared photographs, networks and variants; ``None`` is ``out/work``.
        progress: called with a line for every variant that is computed.

    Returns:
        The path of the page.

    Raises:
        InputError: the experiment or budget is unknown, or the data cannot be used.
        MissingExtraError: an optional package is needed and not installed.
    """
    experiment = EXPERIMENTS.get(name)
    if experiment is None:
        raise InputError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    label = budget if isinstance(budget, str) else "own"
    if isinstance(budget, str):
        if budget not in BUDGETS:
            raise InputError(f"budget must be one of {', '.join(BUDGETS)}, got {budget!r}")
        small = experiment.small if budget == "small" else {}
        budget = replace(BUDGETS[budget], **small)
    for folder in experiment.needs:
        if not (data / folder).is_dir():
            raise InputError(
                f"{display(data)}: the experiment {name} needs a folder {folder} in it"
            )
    out.mkdir(parents=True, exist_ok=True)
    lab = Lab(data, work or out / "work", name, budget, progress)
    values = experiment.measure(lab)
    command = ["fastmef", "experiment", name, "DATA", "-o", "OUT"]
    result: dict[str, Any] = {
        "experiment": name,
        "command": shlex.join(command + ["--budget", label] * (label != "small")),
        "commits": sorted(lab.store.commits),
        "budget": asdict(budget),
        "sizes": budget.describe(experiment.parts),
        "torch": torch.__version__,
        "pictures": None,
        "values": values,
    }
    if experiment.pictures is not None and (data / "hdr").is_dir():
        result["pictures"] = lab.test_views[0].file
        _save_sheet(out / f"{name}.jpg", experiment.pictures(lab))
    text = dump(result) + "\n"
    atomic_write(out / f"{name}.json", text.encode(), force=True)
    # The page is written from the rounded values, so it can be written again from the file.
    write_page(experiment, json.loads(text), out)
    return out / f"{name}.md"


def write_page(experiment: Experiment, result: Result, out: Path) -> None:
    """Write the page and the figure of a result."""
    atomic_write(out / f"{experiment.name}.md", render(experiment, result).encode(), force=True)
    plots.save(
        out / f"{experiment.name}.svg",
        lambda axes: experiment.draw(result, axes),
        experiment.columns,
    )


def render(experiment: Experiment, result: Result) -> str:
    """Return the page of a result."""
    lines = [
        "<!-- Written by `fastmef experiment`; do not edit. -->",
        "",
        f"# {experiment.title}",
        "",
        f"**{experiment.question}**",
        "",
        *bullets(experiment.answer(result["values"])),
        "## How it is measured",
        "",
        experiment.method,
        "",
        f"Budget: {result['sizes']}; torch {result['torch']}.",
        "",
        *experiment.sections(result),
    ]
    if result["pictures"]:
        caption = f"Rendered from {result['pictures']}"
        lines += [f"![{caption}]({experiment.name}.jpg)", "", f"*{caption}.*", ""]
    return "\n".join(lines).rstrip() + "\n"


def dump(values: Any) -> str:
    """Return JSON with seven significant digits."""
    return json.dumps(_rounded(values), indent=1, ensure_ascii=False)


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_rounded(value) for value in values]
    return float(f"{values:.7g}") if isinstance(values, float) else values


def _save_sheet(path: Path, rows: Rows) -> None:
    """Write pictures as a small JPEG."""
    plain = [[(label.translate(IN_ASCII), pixels) for label, pixels in row] for row in rows]
    sheet = contact_sheet(plain, PICTURE_WIDTH)
    Picture.fromarray(sheet).save(path, quality=JPEG_QUALITY, optimize=True)
