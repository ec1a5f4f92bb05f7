"""The command ``fastmef fuse``."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from fastmef.cli import options

# Phase → its approximate share of the time.
_PARTS = {"reading": 0.5, "weighting": 0.1, "writing": 0.3, "finishing": 0.1}
_START_UP_BYTES = 400_000_000  # memory of PyTorch and the network


@click.command()
@click.argument("images", nargs=-1, metavar="UNDER OVER [MORE]...", type=options.FILE)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    type=options.FILE,
    help="The picture to write. Its ending selects the format: .jpg .png .tif .webp .exr .hdr",
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
    help="How much more a photograph counts, from -20 to 20: 0.7 doubles its weight, -0.7 halves"
    " it, 0 leaves it. Give it once for each photograph, in their order.",
)
@click.option(
    "--mask",
    "masks",
    type=options.FILE,
    multiple=True,
    metavar="FILE",
    help="A picture of the photographs' size, black where the photograph must not be used; - for"
    " no mask. Give it once for each photograph, in their order.",
)
@click.option(
    "--weights-out",
    type=options.FILE,
    metavar="FOLDER",
    help="Write weight maps here, dark.weights.png for dark.jpg: small 16-bit grey pictures, white"
    " where only this photograph counts, black where it does not count.",
)
@click.option(
    "--weights-in",
    type=options.FILE,
    metavar="FOLDER",
    help="Use the weight maps that --weights-out has written here, edited or not. Unedited maps"
    " give the same picture to within a level of 255. Only ratios between photographs matter.",
)
@options.refine
@click.option(
    "--mode",
    type=click.Choice(["multiscale", "exact"]),
    help="exact: the plain weighted sum at full size, with a model for a fixed number of"
    " photographs.  [default: the mode of the model]",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="The most memory to use, such as 2GB.  [default: half of what is free]",
)
@click.option(
    "--depth",
    type=click.Choice(["8", "16", "half", "float"]),
    help="Depth of the picture: 8 or 16 bits, half or float.  [default: that of the photographs]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Quality of JPEG and lossy WebP.  [default: 95]",
)
@click.option(
    "--compression",
    metavar="NAME",
    help="Compression. TIFF: none, deflate, lzw, zstd. PNG: 0 to 9. WebP: lossy, lossless."
    " OpenEXR: zip, piz and others.",
)
@click.option(
    "--tiles",
    "tile",
    type=click.IntRange(16, 4096),
    metavar="SIDE",
    help="Write a TIFF in tiles of SIDE rows and columns, a multiple of 16.  [default: strips]",
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

    The photographs must show the same scene from the same position (on a tripod, or aligned
    afterwards) and have the same size. Their order does not matter. JPEG, PNG, TIFF, WebP, OpenEXR
    and Radiance HDR files can be read and written; the result has the depth of the photographs.
    TIFF and PNG files may be larger than the memory. Photographs are turned upright. The result
    gets the metadata and the colour profile of the first one.

    \b
    Examples:
        fastmef fuse dark.jpg bright.jpg -o fused.jpg
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --brightness 0.3 --bias 0 --bias 0.7
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --mask - --mask without-people.png
    """
    from fastmef.cli.preload import defer_meta_registrations, preload_torch

    preload_torch()
    defer_meta_registrations()
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
    rounded = f" ({fuser.precision})" if fuser.mode == "exact" else ""
    click.echo(
        f"{click.format_filename(output)}: {width}×{height}, {len(images)} photographs fused by"
        f" {fuser.mode}{rounded} in {ended - started:.2f} s (start-up {started - begun:.2f} s)"
        + (f", {format_memory(peak)} of memory" if peak else "")
    )
