"""The command ``fastmef export``."""

from __future__ import annotations

from pathlib import Path

import click

from fastmef.cli import options


@click.command()
@click.argument("model", metavar="NAME|FILE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=options.FILE,
    required=True,
    help="The file to write: .onnx, or .pt2 for torch.export.load.",
)
@options.force
def export(model: str, output: Path, force: bool) -> None:
    """Write a network to a file for programs without fastmef.

    NAME|FILE is a network that comes with fastmef, or a .safetensors file. A network for K
    photographs maps exposures (B, K, 3, H, W) in [0, 1] to the fused picture and the weights. A
    network for any number maps pictures of about 64 000 pixels and their shares to weights only:
    the file does not contain the bands of finer detail. Images may have any size from 9 pixels on.

    \b
    Example:
        fastmef export pairs -o pairs.onnx
    """
    from fastmef.nn.export import export_network
    from fastmef.nn.network import FusionNet

    export_network(FusionNet.from_pretrained(model), output, force)
    click.echo(f"wrote {output}")
