"""fastmef train"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastmef.cli import options


class _Setting(click.Option):
    """An option whose default is that of TrainConfig."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from fastmef.training.config import TrainConfig

        record = super().get_help_record(ctx)
        if record is None:
            return None
        default = getattr(TrainConfig(), str(self.name))
        if isinstance(default, tuple):
            default = ",".join(f"{value:g}" for value in default)
        elif isinstance(default, bool):
            default = "yes" if default else "no"
        elif default is None:
            default = "none"
        return record[0], f"{record[1]}  [default: {default}]"


class _Numbers(click.ParamType):
    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.4,0.35,0.25", param, ctx)


# Field of TrainConfig, type of its option, help text.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("steps", int, "Number of optimisation steps."),
    ("width", int, "Channels of the first group of the network; 64 is the paper's."),
    ("initial", str, "Weights to start from: the name of bundled ones, or a .safetensors file."),
    ("seed", int, "Seed of the random numbers. The same seed repeats the run."),
    (
        "batch_size",
        int,
        "Patches in a step. A bracket of more than two exposures is a step of its own.",
    ),
    ("patch", int, "Side of the square patches, in pixels."),
    ("learning_rate", float, "Peak of the learning rate."),
    ("warmup", int, "Steps in which the learning rate rises to its peak."),
    ("weight_decay", float, "Weight decay of the optimiser."),
    ("clip", float, "Largest norm of the gradient; larger ones are scaled to it. 0: no limit."),
    (
        "exposures",
        click.Choice(("any", "fixed")),
        "Train a network for any number of exposures, or for the number in your scenes.",
    ),
    (
        "in_features",
        click.Choice(("gray", "rgb", "gray_max")),
        "What the network reads of each exposure: its luma, all channels, or its luma and the"
        " largest channel.",
    ),
    (
        "skip_connections",
        bool,
        "Join encoder and decoder, for sharper weight maps. The paper's network does not.",
    ),
    ("upsampling", click.Choice(("bilinear", "nearest")), "Upsampling in the decoder."),
    (
        "blend",
        click.Choice(("multiscale", "sum")),
        "Fuse weights at a coarse level and detail by local contrast, or sum as the paper does.",
    ),
    ("levels", int, "How often --blend multiscale halves a patch before the network sees it."),
    ("structure", float, "Weight of the paper's loss."),
    (
        "gamma",
        str,
        "What decides where an exposure counts in the paper's loss: any of variance, gradient"
        " and well_exposedness, joined by _.",
    ),
    ("luminance", bool, "Let the paper's loss compare brightness as well as contrast."),
    ("scales", _Numbers(), "Weights of the paper's loss at full size, half size, a quarter, …"),
    ("mef_ssim", float, "Weight of MEF-SSIM ma2015, 3 scales."),
    ("mef_ssim_1_scale", float, "Weight of MEF-SSIM ma2015, 1 scale."),
    ("mefnet", float, "Weight of MEF-SSIM mefnet."),
    ("color2018", float, "Weight of MEF-SSIM color2018, at half size."),
    ("brightness", float, "Weight of the brightness term, a pull towards well-exposed brightness."),
    ("color", float, "Weight of the colour contrast term."),
    ("precision", click.Choice(("auto", "float32", "bfloat16")), "Precision of the arithmetic."),
    ("checkpoint_every", int, "Number of steps between checkpoints."),
    ("validate_every", int, "Number of steps between validations."),
)


def _settings(command: Callable[..., None]) -> Callable[..., None]:
    for name, kind, text in reversed(SETTINGS):
        flag = "--" + name.replace("_", "-")
        if kind is bool:
            flag = f"{flag}/--no-{flag[2:]}"
        metavar = "N" if kind in (int, float) else "N,N,…" if isinstance(kind, _Numbers) else None
        command = click.option(
            flag, name, type=kind, default=None, metavar=metavar, help=text, cls=_Setting
        )(command)
    return command


@click.command()
@click.argument("folders", metavar="DIR...", type=options.FILE, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "run",
    required=True,
    metavar="RUN",
    type=options.FILE,
    help="The folder for checkpoints, the log and the trained model.safetensors.",
)
@click.option("--resume", is_flag=True, help="Continue the run in RUN from its last checkpoint.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="NAME",
    help="A scene or HDR file to leave out. May be given several times.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="Named settings: default; paper, the network and loss of the paper; pairs, the paper's"
    " loss with more terms. Other options replace settings of the recipe.",
)
@_settings
def train(
    folders: tuple[Path, ...],
    run: Path,
    resume: bool,
    exclude: tuple[str, ...],
    recipe: str | None,
    **settings: Any,
) -> None:
    """Train a network on your own exposures.

    DIR holds one folder a scene, with under.jpg and over.jpg in it, or two or more exposures whose
    names sort from dark to bright; no fused examples are needed. Scenes may have different numbers
    of exposures. HDR files (.hdr, .exr) in DIR are rendered to brackets. Every 8th scene of the
    first DIR is held back for validation. Photographs smaller than a patch are padded by
    reflection. Training can be stopped at any time, and continues with --resume.

    \b
    Example:
        fastmef train photos -o run
        fastmef train pairs brackets hdr --exclude desk -o run
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --model run/model.safetensors
    """
    from fastmef.cli.progress import progress_bar
    from fastmef.training import TrainConfig
    from fastmef.training import train as train_network

    given = {name: value for name, value in settings.items() if value is not None}
    config = None
    if given or recipe is not None or not resume:
        config = TrainConfig.recipe("default" if recipe is None else recipe, **given)
    with progress_bar() as progress:
        task = progress.add_task("training", total=None)

        def show(record: dict[str, Any]) -> None:
            if record["event"] == "start":
                progress.update(task, completed=record["step"], total=record["steps"])
            elif record["event"] == "step":
                loss = f"training, loss {record['loss']:.4f}"
                progress.update(task, completed=record["step"], description=loss)
            elif record["event"] == "validation":
                click.echo(_validation(record))

        try:
            weights = train_network(folders, run, config, resume, show, exclude)
        except KeyboardInterrupt:
            click.echo("fastmef: note: --resume continues from the last checkpoint", err=True)
            raise
    click.echo(f"{click.format_filename(weights)} written")


def _validation(record: dict[str, Any]) -> str:
    from fastmef.cli.tables import DEFAULT_DECIMALS
    from fastmef.metrics import DECIMALS

    scores = (
        f"{name} {value:.{DECIMALS.get(name, DEFAULT_DECIMALS)}f}"
        for name, value in record.items()
        if name not in ("event", "step")
    )
    return f"step {record['step']}: " + ", ".join(scores)
