"""The command ``fastmef experiment``."""

from __future__ import annotations

from pathlib import Path

import click

from fastmef.cli import options

NAMES = ("gamma", "failures", "gap", "truth", "encoder", "learned", "transfer")


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice((*NAMES, "all")))
@click.argument("data", metavar="DATA", type=options.FILE)
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    metavar="OUT",
    type=options.FILE,
    help="The folder for NAME.json, the page NAME.md and its pictures.",
)
@click.option(
    "--budget",
    type=click.Choice(("small", "full")),
    default="small",
    show_default=True,
    help="small: for two cores. full: the paper's sizes, for a GPU.",
)
@click.option(
    "--work",
    metavar="DIR",
    type=options.FILE,
    help="The folder for networks and unfinished results.  [default: OUT/work]",
)
def experiment(name: str, data: Path, out: Path, budget: str, work: Path | None) -> None:
    """Repeat an experiment of the documentation, or run it on your own photographs.

    NAME is gamma (which attributes γ should have), failures (noise and low dynamic range), gap
    (scores against the distance of the exposures), truth (comparison with HDR files), encoder (the
    network's input), learned (γ from attention), transfer (trained on one family of scenes, tested
    on others), or all. DATA holds a folder pairs with one folder per scene, a folder hdr with HDR
    files, or both. An experiment that was stopped continues with the next variant.

    \b
    Example:
        fastmef experiment gamma data -o results
    """
    from fastmef.experiments import run_experiment

    for each in NAMES if name == "all" else (name,):
        page = run_experiment(each, data, out, budget, work, click.echo)
        click.echo(f"{click.format_filename(page)} written")
