"""fastmef train"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastmef.cli import options


class _Setting(click.Option):
    """An option that, when it is not given, leaves the value to TrainConfig."""

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


# Parameter of TrainConfig, type of its option, explanation.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("steps", int, "Training steps."),
    ("width", int, "Size of the network; 64 is the paper's."),
    ("initial", str, "Start from these weights: a bundled name or a .safetensors file."),
    ("seed", int, "Another number gives another run; the same one the same run."),
    ("batch_size", int, "Patches in a step."),
    ("patch", int, "Side of a patch in pixels."),
    ("learning_rate", float, "Largest step size."),
    ("warmup", int, "Steps until the largest step size is reached."),
    ("weight_decay", float, "Pull of the weights towards zero."),
    ("in_features", click.Choice(("gray", "rgb")), "What the network sees."),
    ("skip_connections", bool, "Sharper weight maps; the paper's network has none."),
    ("upsampling", click.Choice(("bilinear", "nearest")), "In the decoder."),
    (
        "gamma",
        str,
        "Which exposure counts where: any of variance, gradient, well_exposedness, joined by _.",
    ),
    ("luminance", bool, "Compare brightness too, not contrast alone."),
    ("scales", _Numbers(), "Weight of the loss at full size, half size, a quarter, …"),
    ("brightness", float, "Pull towards well-exposed brightness."),
    ("color", float, "Weight of colour contrast."),
    ("mef_ssim", float, "Weight of MEF-SSIM itself, 3 scales."),
    ("mef_ssim_1_scale", float, "Weight of MEF-SSIM itself, 1 scale."),
    ("precision", click.Choice(("auto", "float32", "bfloat16")), "Of the arithmetic."),
    ("checkpoint_every", int, "Steps between checkpoints."),
    ("validate_every", int, "Steps between validations."),
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
@click.argument("folder", metavar="DIR", type=options.FILE)
@click.option(
    "-o",
    "--output",
    "run",
    required=True,
    metavar="RUN",
    type=options.FILE,
    help="The folder for checkpoints, the log and the trained model.safetensors.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in RUN where it stopped.")
@_settings
def train(folder: Path, run: Path, resume: bool, **settings: Any) -> None:
    """Train a network on your own exposures.

    DIR holds one folder a scene, with under.jpg and over.jpg in it, or two or more exposures whose
    names sort from dark to bright; no fused examples are needed. Every 8th scene is kept aside for
    validation. Training can be stopped at any time, and goes on with --resume.

    \b
    Example:
        fastmef train photos -o run
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --model run/model.safetensors
    """
    from fastmef.cli.progress import progress_bar
    from fastmef.training import TrainConfig
    from fastmef.training import train as train_network

    given = {name: value for name, value in settings.items() if value is not None}
    config = TrainConfig(**given) if given or not resume else None
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
            weights = train_network(folder, run, config, resume, show)
        except KeyboardInterrupt:
            click.echo("fastmef: note: --resume goes on from the last checkpoint", err=True)
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
