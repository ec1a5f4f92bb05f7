"""The command ``fastmef plot``."""

from __future__ import annotations

from pathlib import Path

import click

from fastmef.cli import options


@click.command()
@click.argument("run", metavar="RUN", type=options.FILE)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=options.FILE,
    help="A .png, .pdf or .svg file.  [default: RUN/plot.png, replaced]",
)
@options.force
def plot(run: Path, output: Path | None, force: bool) -> None:
    """Plot the loss, the scores and the pictures of a training in the folder RUN.

    The training may still be running. This command needs the extra plot.

    \b
    Example:
        fastmef plot run
    """
    from fastmef.training.plot import plot_run

    written = plot_run(run, output, force)
    click.echo(f"{click.format_filename(written)} written")
