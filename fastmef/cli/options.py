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
device = click.option(
    "--device",
    metavar="NAME",
    help="Compute on cpu or cuda.  [default: the graphics card if there is one]",
)
force = click.option("--force", is_flag=True, help="Replace a file that exists already.")
FILE = click.Path(path_type=Path)
