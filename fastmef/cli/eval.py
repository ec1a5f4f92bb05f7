"""The command ``fastmef eval``."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastmef.cli import options

if TYPE_CHECKING:
    from fastmef.data.pairs import Scene
    from fastmef.inference.simple import Image


@click.command("eval")
@click.argument("folder", metavar="DIR", type=options.FILE)
@options.model
@options.color
@options.contrast
@options.brightness
@options.refine
@click.option(
    "--split",
    type=click.Choice(("validation", "train", "all")),
    default="all",
    show_default=True,
    help="Scenes to score. validation: every 8th, which training never sees. train: the others.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Score the first N scenes only.")
@click.option(
    "--csv",
    "csv_file",
    metavar="FILE",
    type=options.FILE,
    help="Write the scores of every scene to this file.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    type=options.FILE,
    help="Write the scores of every scene and their means to this file.",
)
@options.device
@options.force
def evaluate(
    folder: Path,
    model: str,
    color: float,
    contrast: float,
    brightness: float,
    refine: int,
    split: str,
    limit: int | None,
    csv_file: Path | None,
    json_file: Path | None,
    device: str | None,
    force: bool,
) -> None:
    """Score fastmef on a folder of scenes.

    DIR holds one folder per scene, with under.jpg and over.jpg in it, or two or more exposures
    whose names sort from dark to bright. The table shows means over the scenes for single frames,
    for simple fusion methods, and for fastmef. OpenCV's Mertens fusion is one of the methods if
    opencv-python is installed.

    Higher MEF-SSIM is better, 1 is best. Its variants are different measures and cannot be compared
    with one another. ma2015 ignores brightness, so the table also has mean luma and the shares of
    nearly white and nearly black pixels.

    A scene that cannot be read is reported and skipped; the exit status is then 2.

    \b
    Example:
        fastmef eval photos --split validation --csv scores.csv
    """
    from fastmef.data.files import check_output
    from fastmef.data.pairs import find_scenes, split_scenes
    from fastmef.errors import InputError

    for file in (csv_file, json_file):
        if file is not None:
            check_output(file, force)
    scenes = find_scenes(folder)
    if split != "all":
        scenes = split_scenes(scenes)[("train", "validation").index(split)]
    scenes = scenes[:limit]
    if not scenes:
        raise InputError(f"{click.format_filename(folder)}: no scene is in the {split} split")

    from fastmef.allocator import keep_freed_memory
    from fastmef.cli.progress import progress_bar
    from fastmef.inference.inputs import check_bracket
    from fastmef.inference.models import ready_model
    from fastmef.inference.simple import as_tensor
    from fastmef.metrics import DECIMALS, SCORES, SceneScores

    keep_freed_memory()
    ready_model(model, device)
    controls = {"color": color, "contrast": contrast, "brightness": brightness, "refine": refine}
    records: list[dict[str, str | float]] = []
    left_out: list[Scene] = []
    with progress_bar() as progress:
        for scene in progress.track(scenes, description="scoring"):
            found: list[dict[str, str | float]] = []
            try:
                images = check_bracket(scene.images)
                scores = SceneScores(as_tensor(*images).unsqueeze(0))
                for method, image in _results(images, model, controls, device):
                    score = scores.score(as_tensor(image))
                    found.append({"scene": scene.name, "method": method, **score})
            except InputError as error:
                click.echo(f"fastmef: note: a scene is skipped: {error}", err=True)
                left_out.append(scene)
            else:
                records += found
    if not records:
        raise InputError(f"{click.format_filename(folder)}: none of its scenes can be scored")
    means = _means(records)
    if csv_file is not None:
        _write(csv_file, _csv(records), force)
    if json_file is not None:
        report = {
            "folder": folder.name,
            "split": split,
            "model": model,
            **controls,
            "scenes": [scene.name for scene in scenes if scene not in left_out],
            "left_out": [scene.name for scene in left_out],
            "means": means,
            "records": records,
        }
        _write(json_file, json.dumps(report, indent=1) + "\n", force)

    from fastmef.cli.tables import table

    rows: list[list[str | float]] = [
        [method, *(average[key] for key in SCORES)] for method, average in means.items()
    ]
    click.echo(table(("", *SCORES), rows, DECIMALS))
    scored = len(scenes) - len(left_out)
    click.echo(f"\nmeans over {scored} scenes of {click.format_filename(folder)} ({split})")
    for key, name in SCORES.items():
        click.echo(f"  {key}: {name}")
    if left_out:
        raise InputError(f"{len(left_out)} of {len(scenes)} scenes could not be scored")


def _results(
    images: list[Image], model: str, controls: dict[str, Any], device: str | None
) -> Iterator[tuple[str, Image]]:
    """Yield the name and the result of every method."""
    from fastmef.inference.fuse import fuse
    from fastmef.inference.simple import mertens, plain_mean

    ordered = sorted(images, key=lambda image: float(image.mean()))
    yield "darkest frame", ordered[0]
    yield "brightest frame", ordered[-1]
    yield "plain mean", plain_mean(images)
    fused = mertens(images)
    if fused is not None:
        yield "OpenCV Mertens", fused
    yield "fastmef", fuse(images, model, device=device, **controls)


def _means(records: list[dict[str, str | float]]) -> dict[str, dict[str, float]]:
    """Return method → score → mean over the scenes."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        scores = values.setdefault(str(record["method"]), {})
        for name, value in record.items():
            if name not in ("scene", "method"):
                scores.setdefault(name, []).append(float(value))
    return {
        method: {name: statistics.fmean(column) for name, column in scores.items()}
        for method, scores in values.items()
    }


def _csv(records: list[dict[str, str | float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _write(path: Path, text: str, force: bool) -> None:
    from fastmef.data.files import atomic_write

    # Undecodable bytes in file names are escaped, as in messages.
    atomic_write(path, text.encode(errors="backslashreplace"), force)
