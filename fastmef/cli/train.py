"""The command ``fastmef train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastmef.cli import options, train_settings


@click.command()
@click.argument("folders", metavar="DIR...", type=options.FILE, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "run",
    metavar="RUN",
    type=options.FILE,
    help="The folder for checkpoints, the log and the trained model.safetensors.",
)
@click.option("--resume", is_flag=True, help="Continue the run in RUN from its last checkpoint.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="NAME",
    help="Name of a scene or HDR file to leave out. May be given several times.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Named settings: default; paper, the network and loss of the paper; pairs, the paper's"
    " loss with more terms. Other options override settings of the recipe.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="List which scenes would be used, and which not and why, without training.",
)
@click.option(
    "--skip-faulty", is_flag=True, help="Leave out scenes that cannot be used instead of stopping."
)
@click.option(
    "--workers",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Threads that make batches ahead of their use.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Memory for decoded photographs, such as 4GB. Photographs beyond it are decoded again when"
    " they are needed.  [default: half of what is free]",
)
@click.option(
    "--pictures",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    metavar="N",
    help="Number of validation scenes whose fused picture is kept in RUN at every validation.",
)
@click.option("--tensorboard", is_flag=True, help="Also write records for TensorBoard.")
@train_settings.settings
def train(
    folders: tuple[Path, ...],
    run: Path | None,
    resume: bool,
    exclude: tuple[str, ...],
    recipe: str | None,
    dry_run: bool,
    skip_faulty: bool,
    workers: int,
    memory: str | None,
    pictures: int,
    tensorboard: bool,
    **settings: Any,
) -> None:
    """Train a network on your own exposures.

    DIR holds one folder per scene, with under.jpg and over.jpg in it, or two or more exposures
    whose names sort from dark to bright. No fused examples are needed. Scenes may have different
    numbers of exposures. HDR files (.hdr, .exr) in DIR are rendered to brackets. Instead of a
    folder, DIR may be a .jsonl file that lists one scene per line, such as
    {"images": ["a/1.jpg", "a/2.jpg"]}. Every 8th scene of the first DIR is held back for
    validation. Photographs smaller than a patch are padded by reflection. Training can be stopped
    at any time; --resume continues it.

    On several GPUs or machines: torchrun --nproc-per-node N -m fastmef.training DIR... -o RUN

    \b
    Example:
        fastmef train photos -o run
        fastmef train pairs brackets hdr --exclude desk -o run
        fastmef train photos --dry-run
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --model run/model.safetensors
    """
    from fastmef.cli import train_report
    from fastmef.training import TrainConfig, plan_training
    from fastmef.training import train as train_network

    given = {name: value for name, value in settings.items() if value is not None}
    config = None
    if given or recipe is not None or not resume:
        config = TrainConfig.recipe("default" if recipe is None else recipe, **given)
    if dry_run:
        train_report.show_plan(plan_training(folders, config, exclude, memory))
        return
    if run is None:
        raise click.MissingParameter(param_hint="'-o' / '--output'", param_type="option")
    with train_report.Report() as report:
        try:
            weights = train_network(
                folders,
                run,
                config,
                resume,
                report.show,
                exclude,
                workers=workers,
                memory=memory,
                skip_faulty=skip_faulty,
                pictures=pictures,
                tensorboard=tensorboard,
            )
        except KeyboardInterrupt:
            click.echo("fastmef: note: --resume continues from the last checkpoint", err=True)
            raise
    if report.begun:
        click.echo(f"{click.format_filename(weights)} written")
