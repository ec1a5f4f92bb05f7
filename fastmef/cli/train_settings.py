"""The options of fastmef train that are settings of a TrainConfig."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class _Setting(click.Option):
    """An option that shows the default of TrainConfig in its help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from fastmef.training.config import TrainConfig

        record = super().get_help_record(ctx)
        if record is None:
            return None
        default = getattr(TrainConfig(), str(self.name))
        if isinstance(default, tuple):
            default = ",".join(
                value if isinstance(value, str) else f"{value:g}" for value in default
            )
            default = default or "none"
        elif isinstance(default, bool):
            default = "yes" if default else "no"
        elif default is None:
            default = "none"
        return record[0], f"{record[1]}  [default: {default}]"


class _List(click.ParamType):
    """A list of values, separated by commas; the empty text is an empty list."""

    name = "list"

    def __init__(self, kind: Callable[[str], Any], example: str, metavar: str = "N,N,…") -> None:
        self.kind, self.example, self.metavar = kind, example, metavar

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(",")) if value else ()
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as {self.example}", param, ctx)


# Field of TrainConfig, type of its option, help text.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("steps", int, "Number of optimisation steps."),
    ("width", int, "Channels of the first group of the network; 64 is the paper's."),
    ("initial", str, "Weights to start from: the name of bundled ones, or a .safetensors file."),
    ("seed", int, "Seed of the random numbers. The same seed repeats the run."),
    (
        "batch_size",
        int,
        "Patches in a batch. A bracket of more than two exposures is a batch of its own.",
    ),
    ("accumulate", int, "Batches in each process whose mean gradient makes one step."),
    ("patch", int, "Side of the square patches, in pixels."),
    ("learning_rate", float, "Peak of the learning rate."),
    ("warmup", int, "Steps in which the learning rate rises to its peak."),
    (
        "schedule",
        click.Choice(("cosine", "constant")),
        "The learning rate after the warm-up: it falls to zero, or stays constant.",
    ),
    ("weight_decay", float, "Weight decay of the optimiser."),
    ("clip", float, "Largest norm of the gradient. Larger gradients are scaled. 0: no limit."),
    (
        "ema",
        float,
        "Decay of the moving average of the weights that is saved, such as 0.999. 0: none.",
    ),
    ("sync_batchnorm", bool, "Normalise with statistics of the batches of all processes."),
    ("recompute", bool, "Recompute activations instead of keeping them, to save memory."),
    (
        "exposures",
        click.Choice(("any", "fixed")),
        "Train a network for any number of exposures, or for the number in your scenes.",
    ),
    (
        "frames",
        int,
        "With --exposures fixed: number of exposures that are drawn at random from longer scenes"
        " and rendered from HDR files. 0: all exposures of a scene.",
    ),
    (
        "counts",
        _List(int, "3,5,9"),
        "With --exposures any: numbers of exposures to which brackets are thinned and rendered.",
    ),
    (
        "validation",
        str,
        "Share of the scenes of the first DIR that are for validation, or a file with one scene"
        " name per line. 0: none.",
    ),
    ("folder_weights", _List(float, "2,1"), "Share of the batches from each DIR."),
    (
        "reuse",
        int,
        "Number of consecutive batches that are cut from the same photographs. More means fewer"
        " are decoded if they do not fit into memory.",
    ),
    (
        "hdr_stops",
        _List(float, "2,6"),
        "Least and most stops from the darkest to the brightest exposure of rendered brackets.",
    ),
    ("hdr_curves", _List(str, "", "NAME,…"), "Response curves of rendering: srgb, linear, s."),
    ("hdr_gammas", _List(float, "0.8,1.2"), "Least and largest exponent of the response curve."),
    (
        "hdr_clipped",
        float,
        "Share of the pixels that may be white in the darkest rendered exposure, and dark in the"
        " brightest.",
    ),
    ("hdr_noise", _List(float, "0,4e-4"), "Variances of shot noise at white in rendering."),
    ("hdr_bits", int, "Bits to which rendered exposures are rounded."),
    (
        "in_features",
        click.Choice(("gray", "rgb", "gray_max")),
        "Input of the network for each exposure: luma, all channels, or luma and the largest"
        " channel.",
    ),
    (
        "skip_connections",
        bool,
        "Connect encoder and decoder, for sharper weight maps. The paper's network does not.",
    ),
    ("upsampling", click.Choice(("bilinear", "nearest")), "Upsampling in the decoder."),
    (
        "blend",
        click.Choice(("multiscale", "sum")),
        "multiscale: weights at a coarse level, finer detail by local variance. sum: the paper's"
        " weighted sum at full size.",
    ),
    ("levels", int, "How often --blend multiscale halves a patch before the network sees it."),
    ("structure", float, "Weight of the paper's loss."),
    (
        "gamma",
        str,
        "Attributes that decide where an exposure counts in the paper's loss: any of variance,"
        " gradient and well_exposedness, joined by _.",
    ),
    ("luminance", bool, "Compare brightness as well as contrast in the paper's loss."),
    (
        "scales",
        _List(float, "0.4,0.35,0.25"),
        "Weights of the paper's loss at full size, half size, quarter size, …",
    ),
    ("mef_ssim", float, "Weight of MEF-SSIM ma2015, 3 scales."),
    ("mef_ssim_1_scale", float, "Weight of MEF-SSIM ma2015, 1 scale."),
    ("mefnet", float, "Weight of MEF-SSIM mefnet."),
    ("color2018", float, "Weight of MEF-SSIM color2018, at half size."),
    ("brightness", float, "Weight of the brightness term, which favours well-exposed brightness."),
    ("color", float, "Weight of the colour contrast term."),
    ("precision", click.Choice(("auto", "float32", "bfloat16")), "Precision of the arithmetic."),
    ("checkpoint_every", int, "Number of steps between checkpoints."),
    ("validate_every", int, "Number of steps between validations."),
)


def settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for every setting to a command."""
    for name, kind, text in reversed(SETTINGS):
        flag = "--" + name.replace("_", "-")
        if kind is bool:
            flag = f"{flag}/--no-{flag[2:]}"
        metavar = "N" if kind in (int, float) else getattr(kind, "metavar", None)
        command = click.option(
            flag, name, type=kind, default=None, metavar=metavar, help=text, cls=_Setting
        )(command)
    return command
