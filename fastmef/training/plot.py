"""Plot a training: its loss, its scores, and fused validation scenes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmef.data.extras import import_extra
from fastmef.data.files import atomic_write, check_output, display
from fastmef.data.images import read_image
from fastmef.errors import InputError, OutputError
from fastmef.metrics import SCORES
from fastmef.training.log import read_log
from fastmef.training.outputs import picture_paths
from fastmef.training.run_folder import LOG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT = "plot.png"

_KINDS = (".png", ".pdf", ".svg")
_MOST_PICTURES = 4
_SMOOTHED = 50  # points of the smoothed curve


def plot_run(
    run: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, force: bool = False
) -> Path:
    """Plot a run, finished or not.

    Args:
        run: the run folder.
        output: a .png, .pdf or .svg file; ``None`` writes ``plot.png`` in the run folder and
            replaces an existing one.
        force: replace an existing file.

    Returns:
        The path of the plot.

    Raises:
        InputError: the folder holds no log, or the log is damaged.
        OutputError: the plot cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    run = Path(run)
    path, force = (run / PLOT, True) if output is None else (Path(output), force)
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise OutputError(
            f"{display(path)}: the name ends in {kind!r}; allowed: {', '.join(_KINDS)}"
        )
    records = read_log(run / LOG)
    check_output(path, force)
    steps = [record for record in records if record["event"] == "step"]
    validations = [record for record in records if record["event"] == "validation"]
    if not steps:
        raise InputError(f"{display(run / LOG)}: there is no step in it yet")
    content = io.BytesIO()
    _figure(run, steps, validations).savefig(content, format=kind[1:])
    atomic_write(path, content.getvalue(), force=force)
    return path


def _figure(run: Path, steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> Figure:
    figures = import_extra("matplotlib.figure", "plot", "fastmef plot")
    pictures = _first_and_last(run, validations)
    rows = 2 if pictures else 1
    figure = figures.Figure(figsize=(12, 4 * rows), dpi=100, layout="constrained")
    upper, *lower = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    loss, scores = upper.subplots(1, 2)
    _draw_loss(loss, steps)
    _draw_scores(scores, validations)
    for below in lower:
        _draw_pictures(below, pictures)
    return figure


def _draw_loss(axes: Axes, steps: list[dict[str, Any]]) -> None:
    """Draw the loss of every step, and smoothed curves of the loss and its terms."""
    numbers = np.array([record["step"] for record in steps])
    series = {"loss": np.array([record["loss"] for record in steps])}
    for term in steps[0]["terms"]:
        series[term] = np.array([record["terms"][term] for record in steps])
    axes.plot(numbers, series["loss"], color="0.8", linewidth=0.5)
    parts = np.array_split(np.arange(len(steps)), min(_SMOOTHED, len(steps)))
    middles = [numbers[part].mean() for part in parts]
    for name, values in series.items():
        means = [values[part].mean() for part in parts]
        style: dict[str, Any] = {"color": "black", "linewidth": 2} if name == "loss" else {}
        axes.plot(middles, means, label=name, **style)
    axes.set(xlabel="step", title="loss and its terms, without their weights")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")


def _draw_scores(axes: Axes, validations: list[dict[str, Any]]) -> None:
    """Draw every MEF-SSIM over the validations."""
    numbers = [record["step"] for record in validations]
    for name, label in SCORES.items():
        if validations and label.startswith("MEF-SSIM"):
            values = [record[name] for record in validations]
            axes.plot(numbers, values, marker="o", label=f"{label}: {values[-1]:.4f}")
    axes.set(xlabel="step", title="scores of the scenes for validation")
    if validations:
        axes.legend(fontsize="small", loc="lower right")


def _first_and_last(run: Path, validations: list[dict[str, Any]]) -> list[tuple[Path, Path]]:
    """Return pairs of pictures: of one scene at the first and at the last validation."""
    if not validations:
        return []
    before, after = (picture_paths(run, validations[end]["step"]) for end in (0, -1))
    folders = {path.parent: path for path in after}
    pairs = [(path, folders[path.parent]) for path in before if path.parent in folders]
    return pairs[:_MOST_PICTURES]


def _draw_pictures(figure: Any, pictures: list[tuple[Path, Path]]) -> None:
    grid = figure.subplots(2, len(pictures), squeeze=False)
    for column, pair in enumerate(pictures):
        for axes, path in zip(grid[:, column], pair, strict=True):
            axes.imshow(read_image(path).pixels)
            axes.set_title(f"{path.parent.name}, step {int(path.stem)}", fontsize="small")
            axes.axis("off")
