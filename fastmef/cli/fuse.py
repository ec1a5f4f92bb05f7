"""fastmef fuse"""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastmef.cli import options


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
    device: str | None,
    force: bool,
) -> None:
    """Fuse two or more photographs into one.

    They show the same scene from the same place (a tripod, or frames that were aligned) and have
    the same size; their order does not matter. JPEG, PNG, TIFF and WebP with 8 bits a channel can
    be read and written. The photographs are turned upright; EXIF and colour profile of the first
    go into the result.

    \b
    Examples:
        fastmef fuse dark.jpg bright.jpg -o fused.jpg
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --brightness 0.3 --bias 0 --bias 0.7
        fastmef fuse dark.jpg bright.jpg -o fused.jpg --mask - --mask without-people.png
    """
    from fastmef.data.images import check_image_output, read_image, same_profile, write_image
    from fastmef.data.maps import check_map_output, map_paths, read_maps, read_mask, write_maps
    from fastmef.errors import InputError
    from fastmef.inference.inputs import check_bracket

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
    begun = time.perf_counter()
    photos = [read_image(path) for path in images]
    height, width = check_bracket(photos)[0].shape[:2]
    check_image_output(output, (width, height), force)
    if not same_profile(photos):
        click.echo(
            "fastmef: note: the photographs have different colour profiles;"
            f" that of {click.format_filename(images[0])} is used for all",
            err=True,
        )
    allowed = [None if str(path) == "-" else read_mask(path, (width, height)) for path in masks]
    reading = time.perf_counter() - begun

    begun = time.perf_counter()
    from fastmef.allocator import keep_freed_memory
    from fastmef.inference.controls import base_size
    from fastmef.inference.fuse import fuse_with_weights
    from fastmef.inference.models import ready_model

    keep_freed_memory()
    ready_model(model, device)
    weights = None if maps_in is None else read_maps(maps_in, base_size(width, height))
    loading = time.perf_counter() - begun

    begun = time.perf_counter()
    fused, used = fuse_with_weights(
        photos,
        model,
        color=color,
        contrast=contrast,
        brightness=brightness,
        bias=bias or None,
        masks=allowed or None,
        weights=weights,
        refine=refine,
        device=device,
    )
    fusing = time.perf_counter() - begun

    begun = time.perf_counter()
    write_image(output, fused, photos[0].icc_profile, photos[0].exif, force)
    if maps_out is not None:
        write_maps(maps_out, used, force)
    writing = time.perf_counter() - begun
    click.echo(
        f"{click.format_filename(output)}: {width}×{height}, {len(photos)} photographs"
        f" fused in {fusing:.2f} s (start-up {loading:.2f} s, reading {reading:.2f} s,"
        f" writing {writing:.2f} s)"
    )
