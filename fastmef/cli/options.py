"""Define the options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

model = click.option(
    "--model",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="The trained network: the name of a bundled one, or a .safetensors file.",
)
color = click.option(
    "--color",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="0…1",
    help="Share of the washed-out colour that is restored, from none to all.",
)
contrast = click.option(
    "--contrast",
    type=click.FloatRange(0, 4),
    default=1.0,
    show_default=True,
    metavar="0…4",
    help="Strength of fine detail and texture: 0 removes it, 1 keeps it, 2 doubles it.",
)
brightness = click.option(
    "--brightness",
    type=click.FloatRange(-2, 2),
    default=0.0,
    show_default=True,
    metavar="-2…2",
    help="Lighten the middle tones (above 0) or darken them (below 0). Black and white stay.",
)
refine = click.option(
    "--refine",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    metavar="STEPS",
    help="Optimisation steps that tune the network's weights to these photographs; 0 is fastest.",
)
device = click.option(
    "--device",
    metavar="NAME",
    help="Device to compute on: cpu or cuda.  [default: cuda if there is a GPU]",
)
force = click.option("--force", is_flag=True, help="Replace an existing file.")
FILE = click.Path(path_type=Path)
