"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

model = click.option(
    "--model",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="The trained network: the name of one that comes with fastmef, or a .safetensors file.",
)
color = click.option(
    "--color",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="0…1",
    help="How much washed-out colour is given back, from none to all.",
)
contrast = click.option(
    "--contrast",
    type=click.FloatRange(0, 4),
    default=1.0,
    show_default=True,
    metavar="0…4",
    help="Of fine detail and texture: 0 removes it, 1 is as photographed, 2 twice as strong.",
)
brightness = click.option(
    "--brightness",
    type=click.FloatRange(-2, 2),
    default=0.0,
    show_default=True,
    metavar="-2…2",
    help="Lighten the middle tones (above 0) or darken them (below 0); black and white stay.",
)
refine = click.option(
    "--refine",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    metavar="STEPS",
    help="How long the network's weights are tuned to these photographs; 0 is quickest.",
)
device = click.option(
    "--device",
    metavar="NAME",
    help="Compute on cpu or cuda.  [default: the graphics card if there is one]",
)
force = click.option("--force", is_flag=True, help="Replace a file that exists already.")
FILE = click.Path(path_type=Path)
