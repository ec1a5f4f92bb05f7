"""fastmef fuse"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from fastmef.cli import options

# What is done, and about which share of the time it takes.
_PARTS = {"reading": 0.5, "weighting": 0.1, "writing": 0.3, "finishing": 0.1}
_START_UP_BYTES = 400_000_000  # that PyTorch and the network take


@click.command()
@click.argument("images", nargs=-1, metavar="UNDER OVER [MORE]...", type=options.FILE)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    type=options.FILE,
    help="The picture to write; its ending names the kind: .jpg .png .tif .webp",
)
@options.model
@options.color
@options.contrast
@options.brightness
@click.option(
    "--bias",
    type=click.FloatRange(-20, 20),
    multiple=True,
    metavar="B",
    help="How much more a photograph counts: 0.7 is twice as much, -0.7 half as much, 0 as it is;"
    " from -20 to 20. Once for each photograph, in their order.",
)
@click.option(
    "--mask",
    "masks",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="A picture of the photographs' size, black where the photograph must not be used, or - for"
    " none. Once for each photograph, in their order.",
)
@click.option(
    "--weights-out",
    type=options.FILE,
    metavar="FOLDER",
    help="Write how much each photograph counts at each place here: dark.weights.png for dark.jpg,"
    " small and grey, from black (not at all) to white (alone), 16 bits.",
)
@click.option(
    "--weights-in",
    type=options.FILE,
    metavar="FOLDER",
    help="Use what --weights-out has written here, as it is or painted over. Unedited it gives the"
    " same picture to within a level of 255. Only the ratios between the photographs count.",
)
@options.refine
@click.option(
    "--mode",
    type=click.Choice(["multiscale", "exact"]),
    help="exact: the plain weighted sum at full size, by a model for a fixed number of photographs."
    "  [default: what the model was made for]",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="The most memory to use, such as 2GB.  [default: half of what is free]",
)
@click.option(
    "--depth",
    type=click.Choice(["8", "16", "half", "float"]),
    help="Of the picture: 8 or 16 bits, half or float.  [default: that of the photographs]",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG and WebP.  [default: 95]")
@click.option(
    "--compression",
    metavar="NAME",
    help="Of TIFF: none, deflate, lzw, zstd; of PNG: 0 to 9; of WebP: lossy, lossless; of OpenEXR:"
    " zip, piz and others.",
)
@click.option(
    "--tiles",
    "tile",
    type=click.IntRange(16, 4096),
    metavar="SIDE",
    help="Write a TIFF in tiles of so many rows and columns, a multiple of 16.  [default: strips]",
)
@options.device
@options.force
def fuse(
    images: tuple[Path, ...],
    output: Path,
    model: str,
    color: float,
    contrast: float,
    brightness: float,
    bias: tuple[float, ...],
    masks: tuple[Path, ...],
    weights_out: Path | None,
    weights_in: Path | None,
    refine: int,
    mode: str | None,
    memory: str | None,
    depth: str | None,
    quality: int | None,
    compression: str | None,
    tile: int | None,
    device: str | None,
    force: bool,
) -> None:
    """Fuse two or more photographs into one.

    They show the same scene from the same place (a tripod, or frames that were aligned) and have
    the same size; their order does not matter. JPEG, PNG, TIFF, WebP, OpenEXR and Radiance HDR can
    be read and written, in the depth of the photographs. TIFF and PNG are read and written in
    strips, so that they may be larger than the memory. The photographs are turned upright; metadata
    and colour profile of the first go into the result.

    \b
    Examples:
        fastmef fuse dark.jpg bright.jpg -o fused.jpg
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --brightness 0.3 --bias 0 --bias 0.7
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --mask - --mask without-people.png
    """
    from fastmef.cli.process import importing
    from fastmef.cli.progress import late_progress
    from fastmef.data.ahead import decoding_ahead
    from fastmef.data.maps import check_map_output, map_paths, read_maps, read_mask, write_maps
    from fastmef.data.sinks import check_image_output, check_options
    from fastmef.data.sources import open_sources
    from fastmef.errors import InputError
    from fastmef.inference.memory import format_memory, peak_memory, usable_memory

    begun = time.perf_counter()
    if len(images) < 2:
        raise InputError(f"two or more photographs are needed, got {len(images)}")
    for option, given in (("--bias", bias), ("--mask", masks)):
        if given and len(given) != len(images):
            raise InputError(
                f"{option} must be given once for each of {len(images)} photographs,"
                f" got {len(given)}"
            )
    maps_out = maps_in = None
    if weights_out is not None:
        maps_out = map_paths(weights_out, images)
        check_map_output(weights_out, maps_out, force)
    if weights_in is not None:
        maps_in = map_paths(weights_in, images)
    check_image_output(output, force=force)
    check_options(output, quality=quality, compression=compression, tile=tile, depth=depth)
    with contextlib.ExitStack() as stack:
        sources = open_sources(images)
        for source in sources:
            stack.callback(source.close)
        height, width = sources[0].height, sources[0].width
        check_image_output(output, (width, height), force)
        allowed = [None if str(path) == "-" else read_mask(path, (width, height)) for path in masks]

        room = usable_memory(memory) - _START_UP_BYTES
        stack.enter_context(decoding_ahead(sources, room // 2))
        with importing():
            from fastmef.allocator import keep_freed_memory
            from fastmef.inference.controls import base_size
            from fastmef.inference.fuser import Fuser

        keep_freed_memory()
        fuser = Fuser(model, mode=mode, device=device, memory=memory)
        weights = None if maps_in is None else read_maps(maps_in, base_size(width, height))
        started = time.perf_counter()
        report = stack.enter_context(late_progress(_PARTS))
        used = fuser.fuse_into(
            output,
            sources,
            depth=depth,
            quality=quality,
            compression=compression,
            tile=tile,
            force=force,
            progress=report,
            want_weights=maps_out is not None,
            color=color,
            contrast=contrast,
            brightness=brightness,
            bias=bias or None,
            masks=allowed or None,
            weights=weights,
            refine=refine,
        )
    if maps_out is not None:
        write_maps(maps_out, used, force)
    ended = time.perf_counter()
    peak = peak_memory()
    click.echo(
        f"{click.format_filename(output)}: {width}×{height}, {len(images)} photographs fused by"
        f" {fuser.mode} in {ended - started:.2f} s (start-up {started - begun:.2f} s)"
        + (f", {format_memory(peak)} of memory" if peak else "")
    )
